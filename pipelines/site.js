// A link to another host is not followed: nothing leaves the machine. Its address is shown for copying.
(() => {
  const outside = (address) => {
    try {
      const url = new URL(String(address), location.href);
      return /^https?:$/.test(url.protocol) && url.origin !== location.origin ? url.href : null;
    } catch {
      return null;
    }
  };

  const tell = (address) => {
    const box = document.createElement("dialog");
    const text = document.createElement("p");
    text.textContent = `This link leaves the machine, so it was not opened: ${address}`;
    const close = document.createElement("button");
    close.textContent = "Close";
    close.onclick = () => box.remove();
    box.append(text, close);
    Object.assign(box.style, { maxWidth: "40em", padding: "1em", overflowWrap: "anywhere", margin: "auto" });
    box.id = "left-out";
    document.body.append(box);
    box.showModal();
  };

  const stop = (event) => {
    const link = event.composedPath().find((node) => node instanceof Element && node.matches("a, area"));
    const address = link && outside(link.href?.baseVal ?? link.href);
    if (!address) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    tell(address);
  };
  for (const kind of ["click", "auxclick"]) addEventListener(kind, stop, true);

  const open = window.open;
  window.open = (address, ...rest) =>
    outside(address ?? "") ? (tell(outside(address)), null) : open.call(window, address, ...rest);

  window.navigation?.addEventListener("navigate", (event) => {
    if (!event.cancelable || !outside(event.destination.url)) return;
    event.preventDefault();
    tell(event.destination.url);
  });
})();
