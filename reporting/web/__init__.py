"""The report page: templates, styles and scripts in small files, joined into one HTML file."""
