"""The report page: small template, style and script files, combined into one HTML file."""
