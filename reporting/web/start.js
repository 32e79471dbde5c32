"use strict";
if (data.examples.length) viewer();
wall();
document.querySelectorAll(".chart").forEach(chart);
codebook();
