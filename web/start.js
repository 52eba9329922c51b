// What the page says where its script does not run: an ordinary script, since browsers refuse modules to a page that
// was opened as a file. page.js changes the state that the HTML begins with.

addEventListener("load", () => {
  const asFile = location.protocol === "file:";
  if (!asFile && document.body.dataset.state !== "unstarted") return;
  document.body.dataset.state = "broken";
  document.getElementById("waiting").hidden = true;
  const problem = document.getElementById("problem");
  problem.hidden = false;
  problem.textContent = asFile
    ? "This page was opened as a file, and browsers do not let a file load the model. Run “npm start” in the folder " +
      "web/ and open the address that it prints, or copy this folder to a web host."
    : "This page could not start: its file page.js is missing, or this browser is too old. Reload the page. If that " +
      "does not help, try a newer browser.";
});
