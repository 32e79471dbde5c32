"use strict";
if (data.examples.length) viewer();
wall();
if (data.draw) drawing();
document.querySelectorAll(".chart").forEach(chart);
codebook();
