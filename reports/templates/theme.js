// Sets the colour scheme that a reader chose, before anything is drawn.
"use strict";
document.documentElement.classList.add("scripted"); // so that what scripts serve has its place
try {
  const theme = localStorage.getItem("assay-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage is switched off: the system's scheme holds */ }
