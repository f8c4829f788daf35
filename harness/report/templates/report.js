"use strict";
// A picture that scrolls sideways keeps the names of its lanes in sight.
for (const picture of document.querySelectorAll(".picture")) {
  const names = picture.querySelector(".names");
  if (names) picture.addEventListener("scroll", () =>
    names.setAttribute("transform", `translate(${Math.max(0, picture.scrollLeft - 1)},0)`), { passive: true });
}
// Search and filters. It reads the page and hides parts of it; it writes text alone, never HTML.
(() => {
  const form = document.getElementById("filter");
  if (!form) return;
  form.hidden = false;
  const field = (name) => document.getElementById(name);
  const body = document.querySelector("#scenarios tbody");
  const rows = Array.from(body.rows).map((row, place) => {
    const parts = Array.from(document.querySelectorAll("[data-of]")).filter(
      (part) => part.dataset.of === row.dataset.row);
    return { row, parts, place, seconds: Number(row.dataset.seconds), text: null };
  });

  const textOf = (one) => {
    if (one.text === null)
      one.text = [one.row, ...one.parts].map((e) => e.textContent).join("\n").toLowerCase();
    return one.text;
  };
  const chosen = (one, name) => {
    const wanted = field(name).value, is = one.row.dataset[name];
    if (!wanted) return true;
    return wanted.startsWith("!") ? is !== wanted.slice(1) : is === wanted;
  };
  const faulty = (one) => {
    const wanted = field("fault").value, kinds = one.row.dataset.fault;
    if (wanted === "*") return kinds !== "";
    if (wanted === "-") return kinds === "";
    return !wanted || kinds.split("|").includes(wanted);
  };
  const different = (changed) => {
    const wanted = field("change") ? field("change").value : "";
    if (wanted === "*") return changed !== "";
    if (wanted === "-") return changed === "";
    return !wanted || changed.split("|").includes(wanted);
  };
  // The first line that has what was searched for, unless it is in the row anyhow.
  const found = (one, words) => {
    if (!words.length || words.every((word) => one.row.textContent.toLowerCase().includes(word)))
      return "";
    for (const part of one.parts)
      for (const place of part.querySelectorAll("pre, .deciding, title"))
        for (const line of place.textContent.split("\n"))
          if (words.every((word) => line.toLowerCase().includes(word))) return line.trim();
    return "";
  };
  const say = (one, line) => {
    const cell = one.row.querySelector(".name-of");
    let note = cell.querySelector(".hit");
    if (!note && line) {
      note = document.createElement("span");
      note.className = "hit";
      cell.append(note);
    }
    if (note) {
      note.textContent = line.length > 160 ? line.slice(0, 159) + "\u2026" : line;
      note.hidden = !line;
    }
  };

  const apply = () => {
    const words = field("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const most = Number(field("slowest").value);
    let shown = rows.filter((one) =>
      ["outcome", "arch", "tier", "backend"].every((name) => chosen(one, name))
      && faulty(one) && different(one.row.dataset.change));
    shown = shown.filter((one) => {
      const text = words.length ? textOf(one) : "";
      return words.every((word) => text.includes(word));
    });
    if (most) shown = shown.sort((a, b) => b.seconds - a.seconds).slice(0, most);
    const kept = new Set(shown);
    for (const one of rows) {
      one.row.hidden = !kept.has(one);
      for (const part of one.parts) part.hidden = !kept.has(one);
      say(one, kept.has(one) ? found(one, words) : "");
    }
    const order = most ? shown : rows;
    body.append(...order.map((one) => one.row));
    // What the other run alone has knows no more than its name and outcome.
    const narrowed = most || ["outcome", "arch", "tier", "backend", "fault"].some(
      (name) => field(name).value);
    for (const gone of document.querySelectorAll("[data-gone]")) {
      const text = gone.textContent.toLowerCase();
      gone.hidden = narrowed || !different(gone.dataset.change)
        || !words.every((word) => text.includes(word));
    }
    for (const heading of document.querySelectorAll("h2[data-over]")) {
      const over = rows.flatMap((one) => one.parts).filter((part) =>
        part.dataset.under === heading.dataset.over);
      heading.hidden = over.length > 0 && over.every((part) => part.hidden);
    }
    field("shown").textContent = `${shown.length} of ${rows.length} scenarios shown`;
  };

  // A link to what is hidden shows all again; a link opens what it leads into.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) { form.reset(); apply(); }
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView();
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  window.addEventListener("hashchange", reveal);
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing) { event.preventDefault(); field("search").focus(); }
    if (event.key === "Escape" && event.target.id === "search") { form.reset(); }
  });
  apply();
  reveal();
})();
