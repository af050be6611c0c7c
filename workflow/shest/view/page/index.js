"use strict";
// The list of samples. Text of the input only ever becomes textContent or an attribute's value.

const make = (tag, text = "", set = {}) => Object.assign(document.createElement(tag), { textContent: text }, set);
const number = new Intl.NumberFormat("en");

window.shest = (samples) => {
  for (const found of samples) {
    const card = make("article"), link = make("a", "", { href: `${encodeURIComponent(found.sample)}/index.html` });
    link.append(make("img", "", { src: `${encodeURIComponent(found.sample)}/${found.thumbnail}`, alt: `H&E of ${found.sample}` }), make("h2", found.sample));
    card.append(link, make("p", `${number.format(found.cells)} cells, ${number.format(found.kept)} kept, ${number.format(found.labelled)} labelled`));
    if (found.scores.length) {
      const table = make("table"), head = make("tr");
      for (const name of ["system", "protocol", "cells", "weighted F1", "macro F1"]) head.append(make("th", name, { scope: "col" }));
      table.append(head);
      for (const row of found.scores) {
        const line = make("tr");
        for (const text of [row.system, row.protocol, number.format(row.n), row.weighted.toFixed(3), row.macro.toFixed(3)]) line.append(make("td", text));
        table.append(line);
      }
      card.append(table);
    }
    document.getElementById("samples").append(card);
  }
};
