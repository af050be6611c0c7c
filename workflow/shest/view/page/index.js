"use strict";
// The list of samples. Text of the input only ever becomes textContent or an attribute's value.

const make = (tag, text = "", set = {}) => Object.assign(document.createElement(tag), { textContent: text }, set);
const number = new Intl.NumberFormat("en");
const SCORES = [["weighted F1", "weighted"], ["macro F1", "macro"], ["median R", "pearson"]];

window.shest = (samples) => {
  for (const found of samples) {
    const card = make("article"), folder = encodeURIComponent(found.sample);
    document.getElementById("samples").append(card);
    if (!found.pages) {
      card.append(make("h2", found.sample), make("p", `Could not be predicted: ${found.reason}`));
      continue;
    }
    const link = make("a", "", { href: `${folder}/index.html` });
    link.append(make("img", "", { src: `${folder}/${found.thumbnail}`, alt: `H&E of ${found.sample}` }), make("h2", found.sample));
    card.append(link);
    for (const { unit, page, number: all, kept, labelled } of found.pages) {
      const line = make("p"), counts = [`${number.format(all)} ${unit}`, `${number.format(kept)} kept`];
      if (labelled) counts.push(`${number.format(labelled)} labelled`);
      line.append(found.pages.length > 1 ? make("a", counts.join(", "), { href: `${folder}/${page}` }) : counts.join(", "));
      card.append(line);
    }
    if (found.scores?.length) {
      const table = make("table"), head = make("tr"), shown = SCORES.filter(([, key]) => found.scores.some((row) => row[key] !== null));
      for (const name of ["system", "protocol", "scored", ...shown.map(([name]) => name)]) head.append(make("th", name, { scope: "col" }));
      table.append(head);
      for (const row of found.scores) {
        const line = make("tr");
        for (const text of [row.system, row.protocol, `${number.format(row.n)} ${row.unit}`, ...shown.map(([, key]) => row[key]?.toFixed(3) ?? "–")]) line.append(make("td", text));
        table.append(line);
      }
      card.append(table);
    }
  }
};
