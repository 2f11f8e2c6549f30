// Copy buttons, the bar of the site, and `/` to search. Without this file every text is still there to be selected.
document.documentElement.classList.add("scripted");

// On a phone the bar of the site is longer than the screen: bring where one is into view, the page itself stays.
const here = document.querySelector(".top nav [aria-current]");
if (here) {
  const bar = here.closest("nav");
  const middle = (box) => box.left + box.width / 2;
  bar.scrollLeft += middle(here.getBoundingClientRect()) - middle(bar.getBoundingClientRect());
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy-button");
  if (!button) return;
  const text = button.closest(".copy").querySelector("code");
  try {
    await navigator.clipboard.writeText(text.textContent);
  } catch {
    // An address without TLS has no clipboard of its own; the old way needs a selection.
    const selection = window.getSelection();
    selection.selectAllChildren(text);
    document.execCommand("copy");
    selection.removeAllRanges();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select")) return;
  event.preventDefault();
  document.querySelector("input[type=search]")?.focus();
});
