// Shows one blurred picture in its place; without scripts its link opens it alone.
for (const link of document.querySelectorAll("a.open")) {
  const show = (event) => {
    event.preventDefault();
    const picture = link.closest("figure").querySelector("img");
    picture.src = link.href;
    picture.alt = picture.alt.replace("Blurred: ", "");
    picture.tabIndex = -1;
    picture.focus();
    link.remove();
  };
  link.addEventListener("click", show);
  link.addEventListener("keydown", (event) => { if (event.key === " ") show(event); });
}
