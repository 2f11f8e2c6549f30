// Copy buttons. Without this file every text is still there to be selected.
for (const box of document.querySelectorAll(".copy")) {
  const button = box.querySelector("button");
  const text = box.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
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
}
