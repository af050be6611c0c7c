"use strict";
// The page of a sample. Text of the input only ever becomes textContent, an attribute's value or a file that is saved.

const ARRAYS = { Uint8: Uint8Array, Uint16: Uint16Array, Uint32: Uint32Array, Int16: Int16Array, Float32: Float32Array };
const NOTHING = "#8d96a0"; // colour of cells without a value
const AGREE = { same: "#0072b2", other: "#d55e00" };
const CYCLE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000"];
const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const CELL_UM = 5; // diameter of a point once the view is close
const OUTLINES_FROM = 2; // screen px per µm from which outlines are drawn
const WIDE_SPOT = 80; // screen px of a spot's diameter from which its outline is drawn
// While the view moves, what was drawn moves along as a picture, which takes no GPU. It reaches this share of the stage
// beyond each edge; where that is used up, or the zoom has changed too far, a part of the points is drawn anew. Once the
// view rests, all of them are drawn, part by part in as many frames as that takes, and shown when they are complete.
const MARGIN = 0.15;
const FARTHEST_ZOOM = 1.5;
const MOST_PARTS = 31; // 8 bytes a point, and WebGL takes no stride beyond 255
let partPoints = 20000; // tests draw fewer
const MOVING_SIDES = 15000; // of outlines, from which they are hairlines while the view moves
const KEPT_BLOCKS = 24;
const $ = (id) => document.getElementById(id);
const make = (tag, text = "", set = {}) => Object.assign(document.createElement(tag), { textContent: text }, set);
const number = new Intl.NumberFormat("en");

// --- data: scripts that call shest(value) -----------------------------------------------------------------------------

const delivered = new Map();
window.shest = (value) => delivered.set(document.currentScript.dataset.key, value);

function load(path) {
  return new Promise((resolve, reject) => {
    const script = make("script", "", { src: path });
    script.dataset.key = path;
    script.onload = () => {
      const value = delivered.get(path);
      delivered.delete(path);
      script.remove();
      if (value === undefined) reject(new Error(`${path} holds no data`));
      else resolve(value);
    };
    script.onerror = () => {
      script.remove();
      reject(new Error(`${path} is not there: was the folder copied whole?`));
    };
    document.head.append(script);
  });
}

async function unpack({ type, data }) {
  const text = atob(data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return type === "json" ? JSON.parse(new TextDecoder().decode(buffer)) : new ARRAYS[type](buffer);
}

const noneOf = (codes) => (codes.BYTES_PER_ELEMENT === 1 ? 255 : 65535);

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1), low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [a, b] = [rgb(VIRIDIS[low]), rgb(VIRIDIS[low + 1])];
  return a.map((part, k) => Math.round(part + (b[k] - part) * (at - low)));
}

// --- the sample, and what is shown of it -------------------------------------------------------------------------------

let data, place, ids, slide, layer; // manifest; x, y of placed cells (full px); names; OpenSeadragon; WebGL
const colourings = new Map(), genes = new Map(), blocks = new Map();
const state = { left: "", right: "", swipe: null, hidden: new Map(), range: new Map(), palette: "", cell: -1, lasso: null };
let passing = null, resting = 0, moving = false, running = false, missing = [];
let drawn = null, drawing = null; // the picture that is shown; the one that is being drawn, which may be the same
const single = () => data.unit.slice(0, -1); // "cell" or "spot"

async function start() {
  data = delivered.get("sample");
  document.title = `${data.sample}: ${data.unit} over H&E`;
  $("title").textContent = data.protocol ? `${data.sample}, ${data.protocol}` : data.sample;
  $("stage").setAttribute("role", "application");
  $("stage").setAttribute("aria-label", `H&E of ${data.sample} with its ${data.unit}; arrows move, + and − zoom`);
  for (const [unit, page] of Object.entries(data.pages)) if (unit !== data.unit) otherPage(unit, page);
  theme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  state.palette = Object.keys(data.palettes)[0];
  openSlide();
  try {
    layer = makeLayer($("cells"));
    await readUnits(await load(data.units));
  } catch (error) {
    $("status").textContent = `The ${data.unit} cannot be shown. ${error.message}`;
    throw error;
  }
  await controls();
  running = true;
  await fromHash();
  refresh();
  document.documentElement.dataset.ready = "cells";
  addEventListener("hashchange", () => fromHash().then(refresh));
  ids = await unpack(await load(data.ids));
  suggestions();
  await fromHash();
  toHash();
  document.documentElement.dataset.ready = "all";
}

// The page of the sample's other unit, at the same place.
function otherPage(unit, page) {
  const link = $("other");
  link.hidden = false;
  link.textContent = `Its ${unit}`;
  link.href = page;
  link.onclick = () => { link.href = slide.world.getItemCount() ? `${page}#${placeOf(camera())}` : page; };
}

async function readUnits(found) {
  const [x, y] = [await unpack(found.x), await unpack(found.y)], { origin, side, columns } = data.grid;
  place = new Float32Array(2 * x.length);
  for (let block = 0; block < data.start.length - 1; block++) {
    const [left, top] = [origin[0] + (block % columns) * side[0], origin[1] + Math.floor(block / columns) * side[1]];
    for (let i = data.start[block]; i < data.start[block + 1]; i++) {
      place[2 * i] = left + ((x[i] + 0.5) / 65536) * side[0];
      place[2 * i + 1] = top + ((y[i] + 0.5) / 65536) * side[1];
    }
  }
  data.within = { x, y };
  for (const entry of found.categories) add({ ...entry, codes: await unpack(entry.codes) });
  for (const entry of found.numbers) add({ ...entry, codes: await unpack(entry.codes) });
  const annotated = colourings.get("annotated");
  for (const system of annotated ? data.systems : []) {
    const predicted = colourings.get(`predicted.${system}`);
    if (!predicted) continue;
    const codes = annotated.codes.map((code, i) => (code === 255 || predicted.codes[i] === 255 ? 255 : +(code !== predicted.codes[i])));
    add({ key: `agree.${system}`, name: `annotated = predicted, ${system}`, categories: ["the same", "another type"], codes, system });
  }
  for (const { gene, file } of data.genes) genes.set(gene.toLowerCase(), { gene, file });
  layer.places(place);
}

function add(entry) {
  colourings.set(entry.key, entry);
  const none = noneOf(entry.codes), counts = new Float64Array(none + 1);
  for (const code of entry.codes) counts[code]++;
  entry.none = none;
  entry.counts = counts;
}

async function wanted(key) {
  if (!colourings.has(key) && key.startsWith("gene:")) {
    const gene = genes.get(key.slice(5).split("|")[0].toLowerCase());
    if (gene) {
      const found = await load(gene.file);
      for (const entry of found.numbers) add({ ...entry, key: `gene:${gene.gene}|${entry.key}`, gene: gene.gene, codes: await unpack(entry.codes) });
    }
  }
  return colourings.has(key);
}

function colourOf(entry, code) {
  if (code === entry.none) return NOTHING;
  if (!entry.categories) return null;
  if (entry.key.startsWith("agree.")) return code ? AGREE.other : AGREE.same;
  const name = entry.categories[code], palette = data.palettes[state.palette];
  return Object.hasOwn(palette, name) ? palette[name] : CYCLE[code % CYCLE.length];
}

function lookup(entry) {
  const table = new Uint32Array(entry.none + 1);
  for (let code = 0; code <= entry.none; code++) {
    const known = entry.categories ? code < entry.categories.length : code < 255;
    const [r, g, b] = known && !entry.categories && code !== entry.none ? ramp(code / 254) : rgb(colourOf(entry, known ? code : entry.none));
    table[code] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

// Which placed cells are shown: no category of any colouring that hides them, every threshold passed.
function passes() {
  if (passing) return passing;
  const n = place.length / 2;
  passing = new Uint8Array(n).fill(1);
  for (const [key, hidden] of state.hidden) {
    const entry = colourings.get(key);
    if (!entry || !hidden.size) continue;
    const off = new Uint8Array(entry.none + 1);
    for (const code of hidden) off[code] = 1;
    for (let i = 0; i < n; i++) if (off[entry.codes[i]]) passing[i] = 0;
  }
  for (const [key, [low, high]] of state.range) {
    const entry = colourings.get(key);
    if (!entry || (low <= 0 && high >= 254)) continue;
    for (let i = 0; i < n; i++) if (entry.codes[i] === 255 || entry.codes[i] < low || entry.codes[i] > high) passing[i] = 0;
  }
  return passing;
}

function paint(key) {
  const entry = colourings.get(key), table = lookup(entry), shown = passes();
  const colours = new Uint32Array(shown.length);
  for (let i = 0; i < colours.length; i++) colours[i] = shown[i] ? table[entry.codes[i]] : 0;
  return new Uint8Array(colours.buffer);
}

// --- the H&E -----------------------------------------------------------------------------------------------------------

function tilePath(level, column, row) {
  const { columns, names } = data.image.levels[level], at = 16 * (row * columns + column);
  const name = names.slice(at, at + 16);
  return `tiles/${name.slice(0, 2)}/${name}.js`;
}

async function tileImage(path) {
  const image = new Image();
  image.src = `data:image/jpeg;base64,${await load(path)}`;
  await image.decode();
  return image;
}

function openSlide() {
  const { width, height, tile, levels } = data.image;
  slide = OpenSeadragon({
    element: $("slide"),
    drawer: "canvas",
    showNavigationControl: false,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.6,
    maxZoomPixelRatio: 16,
    minZoomImageRatio: 0.7,
    visibilityRatio: 0.2,
    imageLoaderLimit: 8,
    tileSources: {
      width,
      height,
      tileSize: tile,
      tileOverlap: 0,
      minLevel: 0,
      maxLevel: levels.length - 1,
      getTileUrl: tilePath,
      downloadTileStart: (job) => {
        tileImage(job.src).then((image) => job.finish(image, null, "image"), (error) => job.fail(error.message, null));
      },
      downloadTileAbort: () => {},
    },
  });
  // The one style that it puts into the page is allowed by its digest in the page's policy.
  slide.canvas.setAttribute("aria-label", "Slide: arrows move, + and − zoom");
  const move = () => {
    moving = true;
    clearTimeout(resting);
    resting = setTimeout(rest, 150);
  };
  slide.addHandler("update-viewport", follow);
  slide.addHandler("open", () => running && fromHash().then(refresh));
  for (const name of ["animation-start", "animation"]) slide.addHandler(name, move);
  slide.addHandler("resize", () => setTimeout(draw));
  slide.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
  slide.addHandler("canvas-click", (event) => {
    if (!event.quick || !running) return;
    event.preventDefaultAction = true;
    select(pick(event.position.x, event.position.y, 12));
  });
}

function rest() {
  moving = false;
  draw();
  toHash();
}

// Screen px of the stage against full-size px of the H&E, whose pixel centres are at integers.
function camera() {
  const bounds = slide.viewport.getBounds(true), unit = data.image.width * data.image.factor, box = $("stage");
  const scale = box.clientWidth / (bounds.width * unit);
  return { scale, left: bounds.x * unit - 0.5, top: bounds.y * unit - 0.5, width: box.clientWidth, height: box.clientHeight };
}

function goTo(x, y, pxPerUm, at_once = true) {
  const unit = data.image.width * data.image.factor, box = $("stage"), scale = pxPerUm * data.mpp[0];
  const [width, height] = [box.clientWidth / scale / unit, box.clientHeight / scale / unit];
  slide.viewport.fitBounds(new OpenSeadragon.Rect((x + 0.5) / unit - width / 2, (y + 0.5) / unit - height / 2, width, height), at_once);
}

// --- drawing the cells -------------------------------------------------------------------------------------------------

const COLOUR_OF = `
uniform highp sampler2D colours; uniform vec2 centre; uniform vec2 scale;
vec4 colourOf(uint cell) { return texelFetch(colours, ivec2(int(cell & 4095u), int(cell >> 12)), 0); }`;
const POINTS = [`#version 300 es
in vec2 place; uniform uint first; uniform uint step; uniform float size; out vec4 tint; ${COLOUR_OF}
void main() {
  tint = colourOf(first + uint(gl_VertexID) * step);
  gl_Position = tint.a == 0.0 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4((place - centre) * scale, 0.0, 1.0);
  gl_PointSize = size;
}`, `#version 300 es
precision mediump float; in vec4 tint; uniform float opacity; uniform bool round; out vec4 colour;
void main() {
  vec2 from = gl_PointCoord - 0.5;
  if (round && dot(from, from) > 0.25) discard;
  colour = vec4(tint.rgb, 1.0) * opacity;
}`];
// A spot: a square of two triangles, its corners cut off.
const DISCS = [`#version 300 es
in vec2 place; uniform uint first; uniform uint step; uniform vec2 radius; out vec4 tint; out vec2 from; ${COLOUR_OF}
void main() {
  tint = colourOf(first + uint(gl_InstanceID) * step);
  from = vec2((gl_VertexID & 1) == 0 ? -1.0 : 1.0, gl_VertexID < 2 ? -1.0 : 1.0);
  gl_Position = tint.a == 0.0 ? vec4(2.0, 2.0, 2.0, 1.0) : vec4((place + from * radius - centre) * scale, 0.0, 1.0);
}`, `#version 300 es
precision mediump float; in vec4 tint; in vec2 from; uniform float opacity; out vec4 colour;
void main() {
  if (dot(from, from) > 1.0) discard;
  colour = vec4(tint.rgb, 1.0) * opacity;
}`];
// Two triangles a side of an outline, its ends read from a texture: instances would be slower by far where there is no GPU.
const LINES = [`#version 300 es
uniform highp sampler2D rings; uniform vec2 screen; uniform float width; uniform bool hairline; out vec4 tint; ${COLOUR_OF}
vec3 corner(int at) { return texelFetch(rings, ivec2(at & 4095, at >> 12), 0).xyz; } // x, y, the cell that it is of
void main() {
  int each = hairline ? 2 : 6, which = hairline ? gl_VertexID % 2 : int[6](0, 1, 2, 2, 1, 3)[gl_VertexID % 6];
  vec3 a = corner(gl_VertexID / each), b = corner(gl_VertexID / each + 1);
  tint = colourOf(uint(a.z));
  vec2 from = (a.xy - centre) * scale * screen, to = (b.xy - centre) * scale * screen, along = to - from;
  along = dot(along, along) > 0.0 ? normalize(along) : vec2(1.0, 0.0);
  vec2 side = vec2(-along.y, along.x) * (which < 2 ? -0.5 : 0.5);
  if (hairline) side = vec2(0.0);
  vec2 end = (which & 1) == 0 ? from - 0.5 * width * along : to + 0.5 * width * along;
  gl_Position = tint.a == 0.0 || a.z != b.z ? vec4(2.0, 2.0, 2.0, 1.0) : vec4((end + side * width) / screen, 0.0, 1.0);
}`, `#version 300 es
precision mediump float; in vec4 tint; uniform float opacity; out vec4 colour;
void main() { colour = vec4(tint.rgb, 1.0) * opacity; }`];

function makeLayer(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true });
  if (!gl) throw new Error("This browser has no WebGL 2");
  const program = (sources, attributes) => {
    const made = gl.createProgram();
    [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].forEach((type, k) => {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, sources[k]);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    });
    attributes.forEach((name, k) => gl.bindAttribLocation(made, k, name));
    gl.linkProgram(made);
    const known = Array.from({ length: gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS) }, (_, k) => gl.getActiveUniform(made, k).name);
    return { made, at: Object.fromEntries(known.map((name) => [name, gl.getUniformLocation(made, name)])) };
  };
  const points = program(POINTS, ["place"]), discs = program(DISCS, ["place"]), lines = program(LINES, []);
  const placed = gl.createBuffer(), textures = new Map(), pictures = new Map();
  let mark = null;
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  function nearest() {
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  }

  function common(use, view, texture, opacity) {
    gl.useProgram(use.made);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.uniform2f(use.at.centre, view.left + view.width / 2 / view.scale, view.top + view.height / 2 / view.scale);
    gl.uniform2f(use.at.scale, (2 * view.scale) / view.width, (-2 * view.scale) / view.height);
    gl.uniform1f(use.at.opacity, opacity);
  }
  return {
    gl,
    places(xy) {
      gl.bindBuffer(gl.ARRAY_BUFFER, placed);
      gl.bufferData(gl.ARRAY_BUFFER, xy, gl.STATIC_DRAW);
    },
    colours(side, rgba) {
      if (!textures.has(side)) textures.set(side, gl.createTexture());
      const rows = Math.max(1, Math.ceil(rgba.length / 4 / 4096)), whole = new Uint8Array(rows * 4096 * 4);
      whole.set(rgba);
      gl.bindTexture(gl.TEXTURE_2D, textures.get(side));
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 4096, rows, 0, gl.RGBA, gl.UNSIGNED_BYTE, whole);
      nearest();
    },
    // Clear what a picture is drawn into; an earlier one is left as it is, in the other slot.
    begin(picture) {
      for (const side of picture.sides) {
        this.into(picture, side);
        gl.clearColor(0, 0, 0, 0);
        gl.clear(gl.COLOR_BUFFER_BIT);
      }
    },
    into({ slot, pixels: [width, height] }, side) {
      const name = side + slot, found = pictures.get(name) ?? { frame: gl.createFramebuffer(), texture: gl.createTexture() };
      pictures.set(name, found);
      gl.bindFramebuffer(gl.FRAMEBUFFER, found.frame);
      if (found.width !== width || found.height !== height) {
        Object.assign(found, { width, height });
        gl.bindTexture(gl.TEXTURE_2D, found.texture);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
        nearest();
        gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, found.texture, 0);
      }
      gl.viewport(0, 0, width, height);
    },
    // Put the sides of a picture on the screen, each moved and scaled to a box (left, top, width, height: px of the
    // canvas) and shown from one column to another.
    show({ slot, pixels: [width, height] }, [wide, high], [x, y, across, down], sides) {
      if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
      gl.bindFramebuffer(gl.DRAW_FRAMEBUFFER, null);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.enable(gl.SCISSOR_TEST);
      for (const [side, from, to] of sides) {
        gl.scissor(from, 0, to - from, high);
        gl.bindFramebuffer(gl.READ_FRAMEBUFFER, pictures.get(side + slot).frame);
        gl.blitFramebuffer(0, 0, width, height, x, high - y - down, x + across, high - y, gl.COLOR_BUFFER_BIT, across === width ? gl.NEAREST : gl.LINEAR);
      }
      gl.disable(gl.SCISSOR_TEST);
    },
    // What has been asked for until now; whether that is drawn.
    mark() {
      if (mark) gl.deleteSync(mark);
      mark = gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0);
      gl.flush();
    },
    done: () => gl.getSyncParameter(mark, gl.SYNC_STATUS) === gl.SIGNALED,
    // Of each run of units every step-th, from the part-th on.
    points(side, view, ranges, step, part, size, opacity) {
      common(points, view, textures.get(side), opacity);
      gl.uniform1f(points.at.size, size);
      gl.uniform1i(points.at.round, size > 3 ? 1 : 0);
      gl.uniform1ui(points.at.step, step);
      gl.bindBuffer(gl.ARRAY_BUFFER, placed);
      gl.enableVertexAttribArray(0);
      for (const [from, to] of ranges) {
        if (from + part >= to) continue;
        gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 8 * step, 8 * (from + part));
        gl.uniform1ui(points.at.first, from + part);
        gl.drawArrays(gl.POINTS, 0, Math.ceil((to - from - part) / step));
      }
    },
    discs(side, view, ranges, step, part, radius, opacity) {
      common(discs, view, textures.get(side), opacity);
      gl.uniform2f(discs.at.radius, ...radius);
      gl.uniform1ui(discs.at.step, step);
      gl.bindBuffer(gl.ARRAY_BUFFER, placed);
      gl.enableVertexAttribArray(0);
      gl.vertexAttribDivisor(0, 1);
      for (const [from, to] of ranges) {
        if (from + part >= to) continue;
        gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 8 * step, 8 * (from + part));
        gl.uniform1ui(discs.at.first, from + part);
        gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, Math.ceil((to - from - part) / step));
      }
      gl.vertexAttribDivisor(0, 0);
    },
    outlines(side, view, block, ranges, width, opacity, hairline) {
      common(lines, view, textures.get(side), opacity);
      gl.uniform2f(lines.at.screen, view.width / 2, view.height / 2);
      gl.uniform1f(lines.at.width, width);
      gl.uniform1i(lines.at.hairline, hairline ? 1 : 0);
      gl.uniform1i(lines.at.rings, 1);
      gl.activeTexture(gl.TEXTURE1);
      if (!block.texture) {
        block.texture = gl.createTexture();
        gl.bindTexture(gl.TEXTURE_2D, block.texture);
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, 4096, block.rings.length / 16384, 0, gl.RGBA, gl.FLOAT, block.rings);
        nearest();
        block.rings = null;
      }
      gl.bindTexture(gl.TEXTURE_2D, block.texture);
      gl.activeTexture(gl.TEXTURE0);
      gl.disableVertexAttribArray(0);
      for (const [from, to] of ranges) {
        const [first, last] = [block.ring[from - block.first], block.ring[to - block.first]];
        const [kind, each] = hairline ? [gl.LINES, 2] : [gl.TRIANGLES, 6];
        if (last - first > 1) gl.drawArrays(kind, each * first, each * (last - first - 1));
      }
    },
    free(block) {
      if (block.texture) gl.deleteTexture(block.texture);
    },
  };
}

// Blocks in view, and of each the runs of cells that may be seen: within a strip, cells go from left to right.
function inView(view, margin) {
  const { origin, side, columns, rows } = data.grid, found = [];
  const edge = (at, axis) => (at - origin[axis]) / side[axis];
  const [left, right] = [edge(view.left - margin, 0), edge(view.left + view.width / view.scale + margin, 0)];
  const [top, bottom] = [edge(view.top - margin, 1), edge(view.top + view.height / view.scale + margin, 1)];
  for (let row = Math.max(0, Math.floor(top)); row <= Math.min(rows - 1, Math.floor(bottom)); row++)
    for (let column = Math.max(0, Math.floor(left)); column <= Math.min(columns - 1, Math.floor(right)); column++) {
      const block = row * columns + column;
      if (data.start[block] < data.start[block + 1])
        found.push({ block, x: [left - column, right - column], y: [top - row, bottom - row] });
    }
  return found;
}

function firstWhere(from, to, test) {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (test(middle)) to = middle;
    else from = middle + 1;
  }
  return from;
}

function runs({ block, x, y }) {
  const [first, last] = [data.start[block], data.start[block + 1]], within = data.within, found = [];
  if (x[0] <= 0 && x[1] >= 1 && y[0] <= 0 && y[1] >= 1) return [[first, last]];
  for (let strip = Math.max(0, Math.floor(y[0] * 8)); strip <= Math.min(7, Math.floor(y[1] * 8)); strip++) {
    const [from, to] = [strip, strip + 1].map((s) => firstWhere(first, last, (i) => within.y[i] >> 13 >= s));
    const run = [firstWhere(from, to, (i) => within.x[i] >= x[0] * 65536), firstWhere(from, to, (i) => within.x[i] > x[1] * 65536)];
    if (run[0] < run[1]) found.push(run);
  }
  return found;
}

// The view and what lies around it within the margin: of whole px, so that the picture is not resampled at rest.
function widened(view) {
  const [x, y] = [view.width, view.height].map((side) => 4 * Math.round((side * MARGIN) / 4));
  return {
    scale: view.scale, left: view.left - x / view.scale, top: view.top - y / view.scale,
    width: view.width + 2 * x, height: view.height + 2 * y, margin: [x, y],
  };
}

// Whether all that may be seen of the units is on the picture that was drawn, at about the same zoom.
function covers(picture, view) {
  const zoom = view.scale / picture.scale, { origin, side, columns, rows } = data.grid;
  if (zoom > FARTHEST_ZOOM || zoom < 1 / FARTHEST_ZOOM) return false;
  const within = (low, long, own, ownLong, first, count, step) => {
    const [from, to] = [Math.max(low, first), Math.min(low + long / view.scale, first + count * step)];
    return from >= to || (from >= own && to <= own + ownLong / picture.scale);
  };
  return within(view.left, view.width, picture.left, picture.width, origin[0], columns, side[0]) &&
    within(view.top, view.height, picture.top, picture.height, origin[1], rows, side[1]);
}

const sameView = (picture, view) => ["scale", "left", "top", "width", "height"].every((name) => picture.seen[name] === view[name]);

// Called with every frame of the slide: when a tile has come, there is nothing to do.
function follow() {
  if (!running || !slide.world.getItemCount()) return;
  const view = camera();
  if (!moving && drawing?.whole && sameView(drawing, view)) return;
  if (!moving || !drawn || !covers(drawn, view)) return draw();
  put(view);
}

// Show the picture where it belongs in a view. One side is on the canvas as it is, which the browser moves; two are put
// together anew, since the line between them stays where it is.
function put(view) {
  const [x, y] = [(drawn.left - view.left) * view.scale, (drawn.top - view.top) * view.scale], zoom = view.scale / drawn.scale;
  const { style } = layer.gl.canvas, { ratio, pixels, sides } = drawn;
  if (sides.length > 1) {
    const [wide, high] = [view.width, view.height].map((side) => Math.round(side * ratio)), cut = Math.round(state.swipe * wide);
    const box = [x * ratio, y * ratio, pixels[0] * zoom, pixels[1] * zoom].map(Math.round);
    layer.show(drawn, [wide, high], box, [["left", 0, cut], ["right", cut, wide]]);
    Object.assign(style, { width: `${view.width}px`, height: `${view.height}px`, transform: "none" });
  } else {
    if (!drawn.shown) layer.show(drawn, pixels, [0, 0, ...pixels], [["left", 0, pixels[0]]]);
    drawn.shown = true;
    Object.assign(style, { width: `${drawn.width}px`, height: `${drawn.height}px`, transform: `translate(${x}px, ${y}px)` + (zoom === 1 ? "" : ` scale(${zoom})`) });
  }
  drawOver(view, view.scale / data.mpp[0]);
}

// Units that a view shows: runs of those that are drawn as points or discs, and blocks with their outlines.
function shownIn(view, close) {
  const far = [], near = [];
  for (const found of inView(view, (data.diameter_um ?? 40) / 2 / data.mpp[0])) {
    const block = close && blocks.get(found.block), ranges = runs(found);
    if (close && !block) readBlock(found.block);
    if (block && block.ready) near.push([block, ranges]);
    else far.push(...ranges);
  }
  return { far, near };
}

const sum = (values) => values.reduce((all, value) => all + value, 0);

// Begin a picture of what is in view: all of it at rest, a part of the points while the view moves.
function draw() {
  if (!running || !slide.world.getItemCount()) return;
  const seen = camera(), view = widened(seen), perUm = view.scale / data.mpp[0], ratio = Math.min(devicePixelRatio || 1, 2);
  const close = $("outlines").checked && perUm >= (data.diameter_um ? WIDE_SPOT / data.diameter_um : OUTLINES_FROM);
  const { far, near } = shownIn(view, close), sides = state.swipe === null ? ["left"] : ["left", "right"];
  const total = sides.length * sum(far.map(([from, to]) => to - from));
  const edges = sides.length * sum(near.flatMap(([block, ranges]) => ranges.map(([from, to]) => block.ring[to - block.first] - block.ring[from - block.first])));
  const parts = Math.min(Math.max(1, Math.ceil(total / partPoints)), MOST_PARTS);
  const times = +$("size").value, opacity = +$("opacity").value, size = Math.max(2, (data.diameter_um ?? CELL_UM) * perUm) * ratio * times;
  const hairlines = moving && edges > MOVING_SIDES, wide = (data.diameter_um ? 4 : 2) * ratio * times;
  const pixels = [view.width, view.height].map((side) => Math.round(side * ratio)), slot = drawn ? 1 - drawn.slot : 0;
  drawing = { ...view, seen, sides, ratio, pixels, slot, whole: !moving, parts, next: 0, batch: 1 };
  drawing.drawPart = (part) => {
    for (const side of sides) {
      layer.into({ slot, pixels }, side);
      if (data.diameter_um && size > 4) layer.discs(side, view, far, parts, part, data.mpp.map((mpp) => (data.diameter_um * times) / 2 / mpp), opacity);
      else layer.points(side, view, far, parts, part, size, opacity);
      for (const [block, ranges] of part ? [] : near) layer.outlines(side, view, block, ranges, wide, opacity, hairlines);
    }
  };
  layer.begin(drawing);
  drawParts(drawing);
  if (drawing !== drawn) {
    if (!drawn || moving || drawn.sides.length !== sides.length || !covers(drawn, seen)) show(drawing);
    else put(seen);
  }
  if (drawing.whole && drawing.next < parts) nextFrame(drawing);
}

function drawParts(picture) {
  for (let k = 0; k < picture.batch && picture.next < picture.parts; k++) picture.drawPart(picture.next++);
  if (picture.next === picture.parts) show(picture);
  else layer.mark();
}

// Go on with the picture unless another one has begun, or the view moves: then it is begun anew at rest. Each frame draws
// twice as many parts as the one before, unless that one is not done yet: so the page never waits long for them.
function nextFrame(picture, waited = false) {
  requestAnimationFrame(() => {
    if (drawing !== picture || moving) return;
    if (!layer.done()) return nextFrame(picture, true);
    picture.batch = waited ? Math.max(1, picture.batch >> 1) : 2 * picture.batch;
    drawParts(picture);
    if (picture.next < picture.parts) nextFrame(picture);
  });
}

function show(picture) {
  picture.shown = false;
  drawn = picture;
  put(camera());
}

function drawOver(view, perUm) {
  const bar = scaleBar(perUm), divider = $("divider"), canvas = $("over");
  $("scale").style.width = `${bar.px}px`;
  if ($("scale-text").textContent !== bar.text) $("scale-text").textContent = bar.text;
  divider.hidden = state.swipe === null;
  divider.style.left = `${(state.swipe ?? 0) * view.width}px`;
  divider.setAttribute("aria-valuenow", Math.round((state.swipe ?? 0) * 100));
  const empty = state.cell < 0 && !state.lasso;
  canvas.classList.toggle("empty", empty);
  if (empty) return;
  const ratio = Math.min(devicePixelRatio || 1, 2), pen = canvas.getContext("2d");
  const [width, height] = [view.width * ratio, view.height * ratio].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, view.width, view.height);
  const at = (x, y) => [(x - view.left) * view.scale, (y - view.top) * view.scale];
  const stroke = (path) => [["#fff", 5], ["#000", 2.5]].forEach(([colour, wide]) => {
    Object.assign(pen, { strokeStyle: colour, lineWidth: wide });
    pen.stroke(path);
  });
  if (state.cell >= 0 && state.cell < place.length / 2) {
    const ring = new Path2D(), [x, y] = at(place[2 * state.cell], place[2 * state.cell + 1]);
    ring.arc(x, y, Math.max(9, ((data.diameter_um ?? 12) / 2 + 2) * perUm), 0, 7);
    stroke(ring);
  }
  if (state.lasso) {
    const path = new Path2D();
    state.lasso.points.forEach(([x, y], k) => path[k ? "lineTo" : "moveTo"](...at(x, y)));
    if (state.lasso.closed) path.closePath();
    stroke(path);
  }
}

function scaleBar(perUm) {
  const longest = 160 / perUm, power = 10 ** Math.floor(Math.log10(longest));
  const um = [5, 2, 1].find((times) => times * power <= longest) * power;
  return { px: um * perUm, text: um >= 1000 ? `${um / 1000} mm` : `${um} µm` };
}

function refresh() {
  passing = null;
  layer.colours("left", paint(state.left));
  if (state.swipe !== null) layer.colours("right", paint(state.right));
  legend("left");
  legend("right");
  filters();
  draw();
  say();
  if (state.lasso?.closed) composition();
  toHash();
}

function say() {
  let shown = 0;
  for (const one of passes()) shown += one;
  const lost = data.n - place.length / 2;
  $("status").textContent = `${number.format(shown)} of ${number.format(data.n)} ${data.unit} drawn` + (lost ? `; ${number.format(lost)} have no nucleus and no place` : "") + (missing.length ? `. The link also asks for ${missing.join(", ")}: not on this page` : "");
}

// --- blocks: outlines and everything known of single cells ------------------------------------------------------------------

function readBlock(number) {
  if (!blocks.has(number)) {
    const block = { ready: false, first: data.start[number] };
    blocks.set(number, block);
    block.done = fillBlock(block, number).then(() => {
      for (const [old, other] of blocks) {
        if (blocks.size <= KEPT_BLOCKS) break;
        if (old !== number && other.ready) {
          layer.free(other);
          blocks.delete(old);
        }
      }
      draw();
      return block;
    });
    block.done.catch((error) => { $("status").textContent = error.message; });
  }
  return blocks.get(number).done;
}

async function fillBlock(block, at) {
  const found = await load(data.blocks[at]);
  const [vertices, dx, dy] = [await unpack(found.vertices), await unpack(found.dx), await unpack(found.dy)];
  block.vertices = vertices;
  block.ring = new Uint32Array(vertices.length + 1); // where each cell's closed ring begins
  for (let k = 0; k < vertices.length; k++) block.ring[k + 1] = block.ring[k] + (vertices[k] ? vertices[k] + 1 : 0);
  block.rings = new Float32Array(16384 * Math.ceil((block.ring[vertices.length] + 1) / 4096)); // rows of 4,096 x RGBA
  let vertex = 0, out = 0;
  for (let k = 0; k < vertices.length; k++) {
    const cell = block.first + k;
    for (let v = 0; v < (vertices[k] ? vertices[k] + 1 : 0); v++) {
      const from = vertex + (v % vertices[k]);
      block.rings[out++] = place[2 * cell] + dx[from] / data.outline_steps;
      block.rings[out++] = place[2 * cell + 1] + dy[from] / data.outline_steps;
      block.rings[out] = cell;
      out += 2;
    }
    vertex += vertices[k];
  }
  block.corner = new Uint32Array(vertices.length + 1);
  for (let k = 0; k < vertices.length; k++) block.corner[k + 1] = block.corner[k] + vertices[k];
  Object.assign(block, { dx, dy, packed: found.details, near: found.neighbours ? await unpack(found.neighbours) : null, k: found.k, ready: true });
}

const blockOf = (cell) => firstWhere(0, data.start.length - 1, (b) => data.start[b + 1] > cell);

async function factsOf(cell) {
  const block = await readBlock(blockOf(cell)), at = cell - block.first, rows = [];
  block.details ??= await Promise.all(block.packed.map(async (part) => ({ ...part, values: await unpack(part.values ?? part.codes) })));
  for (const { name, categories, values } of block.details) {
    if (categories && values[at] !== noneOf(values)) rows.push([name, categories[values[at]]]);
    if (!categories && Number.isFinite(values[at])) rows.push([name, String(+values[at].toPrecision(4))]);
  }
  return { block, at, rows };
}

// What stands beside the picture of a unit.
const SEEN = {
  cells: {
    note: "What an encoder sees of it, remade from this page's JPEG: window, nucleus; haematoxylin of both.",
    label: (name) => `Window around ${name}, its nucleus, and the haematoxylin of both`,
  },
  spots: { note: "What an encoder sees of it, out of this page's JPEG.", label: (name) => `Patch around ${name}` },
};

// --- one cell or spot -------------------------------------------------------------------------------------------------------------

function pick(x, y, reach) {
  const view = camera(), shown = passes(), [px, py] = [view.left + x / view.scale, view.top + y / view.scale];
  const far = Math.max(reach / view.scale, (data.diameter_um ?? 12) / 2 / data.mpp[0]);
  const small = { left: px - far, top: py - far, width: 2 * far, height: 2 * far, scale: 1 };
  let best = -1, least = far * far;
  for (const part of inView(small, 0))
    for (const [from, to] of runs(part))
      for (let i = from; i < to; i++) {
        if (!shown[i]) continue;
        const distance = (place[2 * i] - px) ** 2 + (place[2 * i + 1] - py) ** 2;
        if (distance <= least) [best, least] = [i, distance];
      }
  return best;
}

const valueOf = (entry, cell) => {
  const code = entry.codes[cell];
  if (code === entry.none) return "none";
  return entry.categories ? entry.categories[code] : String(+((code / 254) * entry.top).toPrecision(3));
};

function tip(event) {
  const box = $("stage").getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const cell = running && event.buttons === 0 && !event.target.closest("#divider") ? pick(x, y, 8) : -1;
  $("tip").hidden = cell < 0;
  if (cell < 0) return;
  const lines = [ids ? ids[cell] : "…"];
  for (const entry of colourings.values()) if (!entry.gene || entry.key === state.left || entry.key === state.right) lines.push(`${entry.name}: ${valueOf(entry, cell)}`);
  $("tip").textContent = lines.join("\n");
  const wide = $("tip").offsetWidth, high = $("tip").offsetHeight;
  $("tip").style.left = `${Math.max(0, x + 14 + wide > box.width ? x - wide - 10 : x + 14)}px`;
  $("tip").style.top = `${Math.max(0, Math.min(y + 14, box.height - high))}px`;
}

async function select(cell) {
  state.cell = cell;
  if (drawn) put(camera());
  toHash();
  $("cell").hidden = cell < 0;
  if (cell < 0) return say();
  const name = ids ? ids[cell] : `${single()} ${cell}`;
  $("status").textContent = `${name} is selected`;
  $("cell-head").textContent = name;
  $("tile").replaceChildren();
  $("near").replaceChildren();
  $("facts").replaceChildren();
  if (cell >= place.length / 2) {
    $("facts").append(row("place", "no nucleus, so none"), row("reason", valueOf(colourings.get("reason"), cell)));
    return;
  }
  const { block, at, rows } = await factsOf(cell);
  if (state.cell !== cell) return;
  const [x, y] = [place[2 * cell], place[2 * cell + 1]];
  const known = [["x, y (H&E px)", `${x.toFixed(1)}, ${y.toFixed(1)}`], ...rows];
  for (const entry of colourings.values()) if (entry.gene) known.push([entry.name, valueOf(entry, cell)]);
  $("facts").replaceChildren(...known.map(([head, value]) => row(head, value)));
  const near = block.near ? Array.from(block.near.subarray(at * block.k, (at + 1) * block.k)).filter((i) => i < data.n) : [];
  $("tile").append(make("p", SEEN[data.unit].note, { className: "note" }));
  const canvas = make("canvas", "", { width: 224, height: 224 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", SEEN[data.unit].label(name));
  $("tile").append(canvas);
  if (near.length) $("near").append(make("p", "Nearest in the embedding:", { className: "note" }));
  for (const other of near) {
    const button = make("button", "", { title: ids ? ids[other] : "", onclick: () => visit(other) });
    button.setAttribute("aria-label", `Go to ${ids ? ids[other] : "a neighbour"}`);
    const small = make("canvas", "", { width: 48, height: 48 });
    button.append(small);
    $("near").append(button);
    crop(small.getContext("2d"), other, 48);
  }
  const drawing = data.unit === "cells" ? quadruple(canvas, cell, block, at) : crop(canvas.getContext("2d", { willReadFrequently: true }), cell, 224);
  drawing.then(() => (canvas.dataset.drawn = "true"));
}

function row(head, value) {
  const line = make("tr");
  line.append(make("th", head, { scope: "row" }), make("td", value));
  return line;
}

function visit(cell) {
  if (cell < place.length / 2) goTo(place[2 * cell], place[2 * cell + 1], Math.max(data.diameter_um ? 200 / data.diameter_um : 4, camera().scale / data.mpp[0]));
  return select(cell);
}

// Draw the window around a cell, side x side px, out of the finest tiles.
async function crop(pen, cell, side) {
  const { factor, tile, levels } = data.image, level = levels.length - 1, { columns, rows } = levels[level];
  const [wide, high] = data.mpp.map((mpp) => data.window_um / mpp / factor);
  const [left, top] = [(place[2 * cell] + 0.5) / factor - wide / 2, (place[2 * cell + 1] + 0.5) / factor - high / 2];
  pen.save();
  pen.scale(side / wide, side / high);
  pen.translate(-left, -top);
  for (let r = Math.max(0, Math.floor(top / tile)); r <= Math.min(rows - 1, Math.floor((top + high) / tile)); r++)
    for (let c = Math.max(0, Math.floor(left / tile)); c <= Math.min(columns - 1, Math.floor((left + wide) / tile)); c++)
      pen.drawImage(await tileImage(tilePath(level, c, r)), c * tile, r * tile);
  pen.restore();
}

// Ruifrok and Johnston 2001, as scikit-image has it: the share of haematoxylin, and the colour that it alone gives.
const STAINS = [[0.65, 0.7, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]];
const OF_HAEMATOXYLIN = (() => {
  const [[a, b, c], [d, e, f], [g, h, i]] = STAINS, det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [(e * i - f * h) / det, (f * g - d * i) / det, (d * h - e * g) / det];
})();

function haematoxylin(pixels) {
  for (let k = 0; k < pixels.length; k += 4) {
    let amount = 0;
    for (let c = 0; c < 3; c++) amount -= Math.log(Math.max(pixels[k + c] / 255, 1e-6)) * OF_HAEMATOXYLIN[c];
    for (let c = 0; c < 3; c++) pixels[k + c] = 255 * Math.min(1, Math.exp(-Math.max(amount, 0) * STAINS[0][c]));
  }
}

async function quadruple(canvas, cell, block, at) {
  const pen = canvas.getContext("2d", { willReadFrequently: true }), half = 112, scratch = make("canvas", "", { width: half, height: half });
  const small = scratch.getContext("2d", { willReadFrequently: true });
  await crop(small, cell, half);
  const nucleus = new Path2D(), per = data.mpp.map((mpp) => (half * mpp) / data.window_um / data.outline_steps);
  for (let v = block.corner[at]; v < block.corner[at + 1]; v++)
    nucleus[v === block.corner[at] ? "moveTo" : "lineTo"](half / 2 + block.dx[v] * per[0], half / 2 + block.dy[v] * per[1]);
  pen.fillRect(0, 0, 224, 224);
  for (const top of [0, half]) {
    if (top) {
      const image = small.getImageData(0, 0, half, half);
      haematoxylin(image.data);
      small.putImageData(image, 0, 0);
    }
    pen.drawImage(scratch, 0, top);
    pen.save();
    pen.translate(half, top);
    pen.clip(nucleus);
    pen.drawImage(scratch, 0, 0);
    pen.restore();
  }
}

// --- legend, thresholds ---------------------------------------------------------------------------------------------------

const hiddenOf = (key) => state.hidden.get(key) ?? state.hidden.set(key, new Set()).get(key);

function legend(side) {
  const box = $(`legend-${side}`), entry = colourings.get(state[side]);
  const kept = box.contains(document.activeElement) ? document.activeElement.dataset.code : null;
  box.replaceChildren();
  if (!entry || (side === "right" && state.swipe === null)) return;
  if (entry.categories) {
    const codes = [...entry.categories.keys(), entry.none].filter((code) => entry.counts[code] || code !== entry.none);
    for (const code of codes) {
      const button = make("button", "", { className: "type" }), hidden = hiddenOf(entry.key);
      button.dataset.code = code;
      button.setAttribute("aria-pressed", String(!hidden.has(code)));
      const swatch = make("span", "", { className: "swatch" });
      swatch.style.backgroundColor = colourOf(entry, code);
      const name = code === entry.none ? "none" : entry.categories[code];
      button.append(swatch, make("span", name), make("span", number.format(entry.counts[code]), { className: "count" }));
      button.onclick = () => {
        if (!hidden.delete(code)) hidden.add(code);
        refresh();
      };
      box.append(button);
    }
    if (kept !== null) box.querySelector(`[data-code="${CSS.escape(kept)}"]`)?.focus();
  } else {
    const canvas = make("canvas", "", { className: "ramp", width: 255, height: 1 }), pen = canvas.getContext("2d"), ends = make("div", "", { className: "ends" });
    for (let k = 0; k < 255; k++) {
      pen.fillStyle = `rgb(${ramp(k / 254).join()})`;
      pen.fillRect(k, 0, 1, 1);
    }
    ends.append(make("span", "0"), make("span", entry.name), make("span", `${entry.gene ? "≥ " : ""}${+entry.top.toPrecision(3)}`));
    box.append(canvas, ends);
  }
}

function filters() {
  const keys = [...colourings.keys()].filter((key) => key.startsWith("probability."));
  for (const key of [state.left, state.swipe === null ? "" : state.right, ...state.range.keys()])
    if (colourings.has(key) && !colourings.get(key).categories && !keys.includes(key)) keys.push(key);
  const now = JSON.stringify([keys, state.left, state.right]);
  if ($("filters").dataset.keys === now) return;
  $("filters").dataset.keys = now;
  $("filters").replaceChildren();
  for (const key of keys) {
    const entry = colourings.get(key);
    const ends = key.startsWith("probability.") && ![state.left, state.right].includes(key) ? ["at least"] : ["at least", "at most"];
    ends.forEach((words, end) => {
      const label = make("label"), text = make("span"), value = (state.range.get(key) ?? [0, 254])[end];
      const slider = make("input", "", { type: "range", min: 0, max: 254, value });
      const told = () => { text.textContent = `${entry.name} ${words} ${+((slider.value / 254) * entry.top).toPrecision(3)}`; };
      slider.oninput = () => {
        const range = state.range.get(key) ?? [0, 254];
        range[end] = +slider.value;
        state.range.set(key, range);
        told();
        refresh();
      };
      told();
      label.append(text, slider);
      $("filters").append(label);
    });
  }
}

// --- controls -------------------------------------------------------------------------------------------------------------

function theme(name) {
  document.documentElement.dataset.theme = name;
}

function options(select, chosen) {
  select.replaceChildren(...[...colourings.values()].map((entry) => make("option", entry.name, { value: entry.key, selected: entry.key === chosen })));
}

async function controls() {
  const gene = data.genes.length && data.unit === "spots" ? `gene:${data.genes[0].gene}|` : "";
  const first = [];
  for (const key of [`predicted.${data.systems[0]}`, "annotated", `${gene}expected.${data.systems[0]}`, "reason"]) if (await wanted(key)) first.push(key);
  state.left = first[0];
  state.right = [`predicted.${data.systems[1]}`, "annotated", `${gene}measured`, "reason"].find((key) => colourings.has(key) && key !== state.left) ?? state.left;
  $("palette").replaceChildren(...Object.keys(data.palettes).map((name) => make("option", name, { value: name })));
  $("palette").onchange = () => { state.palette = $("palette").value; refresh(); };
  for (const side of ["left", "right"]) $(side).onchange = () => { state[side] = $(side).value; refresh(); };
  $("swipe").onchange = () => swipe($("swipe").checked ? 0.5 : null);
  for (const id of ["outlines", "size", "opacity"]) $(id).oninput = draw;
  $("he").oninput = () => { slide.world.getItemAt(0)?.setOpacity(+$("he").checked); };
  $("reset").onclick = () => {
    state.hidden.clear();
    state.range.clear();
    $("filters").dataset.keys = "";
    refresh();
  };
  $("home").onclick = () => slide.viewport.goHome();
  $("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  $("help").onclick = () => $("help").setAttribute("aria-expanded", String(!($("keys").hidden = !$("keys").hidden)));
  $("png").onclick = savePicture;
  $("csv").onclick = saveTable;
  $("lasso").onclick = () => lasso($("lasso").getAttribute("aria-pressed") !== "true");
  $("search").onsubmit = (event) => {
    event.preventDefault();
    search($("query").value.trim());
  };
  $("stage").addEventListener("pointermove", tip);
  $("stage").addEventListener("pointerleave", () => { $("tip").hidden = true; });
  options($("left"), state.left);
  options($("right"), state.right);
  dragDivider();
  dragLasso();
  document.addEventListener("keydown", keys);
}

function swipe(share) {
  state.swipe = share;
  $("swipe").checked = share !== null;
  $("right-label").hidden = share === null;
  refresh();
}

function dragDivider() {
  const divider = $("divider"), move = (share) => {
    state.swipe = Math.min(Math.max(share, 0), 1);
    if (drawn) put(camera());
    toHash();
  };
  divider.onpointerdown = (event) => { divider.setPointerCapture(event.pointerId); event.preventDefault(); divider.focus(); };
  divider.onpointermove = (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = $("stage").getBoundingClientRect();
    move((event.clientX - box.left) / box.width);
  };
  divider.onkeydown = (event) => {
    const by = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    move(state.swipe + by);
  };
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const view = slide.viewport, pan = (x, y) => view.panBy(view.deltaPointsFromPixels(new OpenSeadragon.Point(x, y)));
  const known = {
    "/": () => $("query").focus(),
    s: () => swipe(state.swipe === null ? 0.5 : null),
    l: () => lasso($("lasso").getAttribute("aria-pressed") !== "true"),
    o: () => { $("outlines").checked = !$("outlines").checked; draw(); },
    h: () => $("he").click(),
    d: () => $("theme").click(),
    p: savePicture,
    0: () => view.goHome(),
    "+": () => view.zoomBy(1.4),
    "=": () => view.zoomBy(1.4),
    "-": () => view.zoomBy(1 / 1.4),
    "?": () => $("help").click(),
    ArrowLeft: () => pan(-80, 0),
    ArrowRight: () => pan(80, 0),
    ArrowUp: () => pan(0, -80),
    ArrowDown: () => pan(0, 80),
    Escape: () => { lasso(false); state.lasso = null; $("selection").hidden = true; select(-1); },
  };
  if (!Object.hasOwn(known, event.key)) return;
  event.preventDefault();
  known[event.key]();
}

function suggestions() {
  $("known").replaceChildren(...data.genes.map(({ gene }) => make("option", "", { value: gene })));
}

async function search(text) {
  if (!text) return;
  const gene = genes.get(text.toLowerCase());
  if (gene) {
    const entry = await load(gene.file).then((found) => found.numbers[0].key);
    const key = `gene:${gene.gene}|${entry}`;
    await wanted(key);
    state.left = key;
    options($("left"), state.left);
    options($("right"), state.right);
    return refresh();
  }
  const exact = ids ? ids.indexOf(text) : -1, cell = exact >= 0 || !ids ? exact : ids.findIndex((name) => name.startsWith(text));
  if (cell >= 0) await visit(cell);
  else $("status").textContent = ids ? `Neither a ${single()} nor a gene shown here is called ${text}` : "The names are still being read";
}

// --- lasso ------------------------------------------------------------------------------------------------------------------

function lasso(on) {
  $("lasso").setAttribute("aria-pressed", String(on));
  $("over").classList.toggle("drawing", on);
}

function dragLasso() {
  const over = $("over"), point = (event) => {
    const box = $("stage").getBoundingClientRect(), view = camera();
    return [view.left + (event.clientX - box.left) / view.scale, view.top + (event.clientY - box.top) / view.scale];
  };
  over.onpointerdown = (event) => {
    over.setPointerCapture(event.pointerId);
    state.lasso = { points: [point(event)], closed: false };
  };
  over.onpointermove = (event) => {
    if (!state.lasso || state.lasso.closed || !over.hasPointerCapture(event.pointerId)) return;
    state.lasso.points.push(point(event));
    put(camera());
  };
  over.onpointerup = () => {
    if (!state.lasso) return;
    state.lasso.closed = true;
    lasso(false);
    composition();
    put(camera());
  };
}

function selected() {
  const ring = state.lasso.points, [xs, ys] = [0, 1].map((axis) => ring.map((point) => point[axis])), shown = passes();
  // a line of many points is longer than the stack of a call: no Math.min(...xs)
  const [left, right, top, bottom] = [xs.reduce((a, b) => Math.min(a, b)), xs.reduce((a, b) => Math.max(a, b)), ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))];
  const found = [], box = { left, top, width: right - left, height: bottom - top, scale: 1 };
  for (const part of inView(box, 0))
    for (const [from, to] of runs(part))
      for (let i = from; i < to; i++) {
        const [x, y] = [place[2 * i], place[2 * i + 1]];
        if (!shown[i] || x < left || x > right || y < top || y > bottom) continue;
        let inside = false;
        for (let k = 0, j = ring.length - 1; k < ring.length; j = k++)
          if (ys[k] > y !== ys[j] > y && x < ((xs[j] - xs[k]) * (y - ys[k])) / (ys[j] - ys[k]) + xs[k]) inside = !inside;
        if (inside) found.push(i);
      }
  return found;
}

function composition() {
  const cells = selected(), parts = [make("p", `${number.format(cells.length)} ${data.unit}`, { id: "selected" })];
  const known = colourings.get(state.left), values = known.categories ? [] : cells.map((cell) => known.codes[cell]).filter((code) => code !== known.none);
  if (values.length) parts.push(make("p", `Mean of ${known.name}: ${+((values.reduce((a, b) => a + b) / values.length / 254) * known.top).toPrecision(3)}`));
  for (const entry of colourings.values()) {
    if (entry.key !== "annotated" && !entry.key.startsWith("predicted.")) continue;
    const counts = new Map(), table = make("table");
    for (const cell of cells) counts.set(entry.codes[cell], (counts.get(entry.codes[cell]) ?? 0) + 1);
    table.append(make("caption", entry.name));
    for (const [code, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      const line = row(code === entry.none ? "none" : entry.categories[code], "");
      line.append(make("td", number.format(count), { className: "number" }), make("td", `${((100 * count) / cells.length).toFixed(1)} %`, { className: "number" }));
      line.children[1].remove();
      table.append(line);
    }
    parts.push(table);
  }
  $("composition").replaceChildren(...parts);
  $("selection").hidden = false;
  $("status").textContent = `${number.format(cells.length)} ${data.unit} are selected`;
}

function save(blob, name) {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const fileName = (end) => `${data.sample.replace(/[^\w.-]+/g, "_")}.${end}`;

function saveTable() {
  const entries = [...colourings.values()], quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
  const lines = [[`${single()}_id`, "x", "y", ...entries.map((entry) => entry.name)].map(quoted).join()];
  for (const i of selected())
    lines.push([quoted(ids ? ids[i] : i), place[2 * i].toFixed(2), place[2 * i + 1].toFixed(2), ...entries.map((entry) => quoted(valueOf(entry, i)))].join());
  save(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }), fileName("csv"));
}

function savePicture() {
  const view = camera(), cells = $("cells"), ratio = Math.min(devicePixelRatio || 1, 2);
  const canvas = make("canvas", "", { width: Math.round(view.width * ratio), height: Math.round(view.height * ratio) });
  const pen = canvas.getContext("2d"), bar = scaleBar(view.scale / data.mpp[0]);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  const he = slide.drawer.canvas;
  if ($("he").checked) pen.drawImage(he, 0, 0, he.width, he.height, 0, 0, canvas.width, canvas.height);
  draw(); // the layer's pixels last only as long as this task
  drawing.batch = drawing.parts;
  drawParts(drawing);
  const beyond = drawn.sides.length > 1 ? [0, 0] : drawn.margin.map((side) => -side * ratio);
  pen.drawImage(cells, ...beyond);
  if (state.cell >= 0 || state.lasso) pen.drawImage($("over"), 0, 0);
  pen.scale(ratio, ratio);
  pen.font = "13px system-ui, sans-serif";
  const texts = [...legendText(), bar.text], wide = Math.max(bar.px, ...texts.map((text) => pen.measureText(text[0] === "#" ? text.slice(8) : text).width + 18));
  pen.fillStyle = "#ffffffe0";
  pen.fillRect(8, view.height - 24 - 18 * texts.length, wide + 14, 16 + 18 * texts.length);
  texts.reverse().forEach((text, k) => {
    const y = view.height - 24 - 18 * k, colour = text[0] === "#";
    pen.fillStyle = colour ? text.slice(0, 7) : "#000";
    if (colour) pen.fillRect(15, y - 10, 11, 11);
    pen.fillStyle = "#000";
    pen.fillText(colour ? text.slice(8) : text, colour ? 31 : 15, y);
  });
  pen.fillRect(15, view.height - 16, bar.px, 3);
  canvas.toBlob((blob) => save(blob, fileName("png")), "image/png");
}

function legendText() {
  const of = (entry) => entry.categories
    ? [...entry.categories.keys()].filter((code) => !hiddenOf(entry.key).has(code)).map((code) => `${colourOf(entry, code)} ${entry.categories[code]}`)
    : [`${entry.name}: 0 to ${+entry.top.toPrecision(3)}`];
  const sides = state.swipe === null ? ["left"] : ["left", "right"];
  const head = (side) => `${sides.length > 1 ? `${side}: ` : ""}${colourings.get(state[side]).name}`;
  return sides.flatMap((side) => [head(side), ...of(colourings.get(state[side]))]);
}

// --- the view as a link -------------------------------------------------------------------------------------------------------

let written = "", writing = 0;

// Where the view is: its centre, full-size px of the H&E, and its zoom, screen px per µm.
function placeOf(view) {
  return new URLSearchParams([
    ["x", (view.left + view.width / 2 / view.scale).toFixed(1)],
    ["y", (view.top + view.height / 2 / view.scale).toFixed(1)],
    ["z", (view.scale / data.mpp[0]).toPrecision(5)],
  ]);
}

function toHash() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    if (!running || !ids || !slide.world.getItemCount()) return; // before ids are there a link's cell would be lost
    const parts = placeOf(camera());
    parts.set("left", state.left);
    if (state.swipe !== null) {
      parts.set("right", state.right);
      parts.set("swipe", state.swipe.toFixed(3));
    }
    for (const [key, hidden] of state.hidden) if (hidden.size) parts.append("hide", [key, ...[...hidden].map((code) => colourings.get(key).categories[code] ?? "none")].join("~"));
    for (const [key, range] of state.range) parts.append("range", [key, ...range].join("~"));
    if (state.palette !== Object.keys(data.palettes)[0]) parts.set("palette", state.palette);
    if (state.cell >= 0) parts.set("cell", ids[state.cell]);
    written = `#${parts}`;
    history.replaceState(null, "", written);
  }, 250);
}

async function fromHash() {
  if (location.hash.length < 2 || location.hash === written || !slide.world.getItemCount()) return;
  const parts = new URLSearchParams(location.hash.slice(1)), value = (name) => Number(parts.get(name));
  missing = [];
  for (const side of ["left", "right"]) {
    if (!parts.has(side)) continue;
    if (await wanted(parts.get(side))) state[side] = parts.get(side);
    else missing.push(parts.get(side));
  }
  state.hidden.clear();
  state.range.clear();
  for (const text of [...parts.getAll("hide"), ...parts.getAll("only")]) hideFromHash(text.split("~"), parts.getAll("only").includes(text));
  for (const text of parts.getAll("range")) {
    const [key, low, high] = text.split("~");
    if ((await wanted(key)) && !colourings.get(key).categories) state.range.set(key, [Number(low) || 0, high === undefined ? 254 : Number(high)]);
  }
  for (const text of parts.getAll("between")) await rangeFromHash(...text.split("~"));
  if (Object.hasOwn(data.palettes, parts.get("palette") ?? "")) state.palette = parts.get("palette");
  $("palette").value = state.palette;
  state.swipe = parts.has("swipe") ? Math.min(Math.max(value("swipe") || 0, 0), 1) : null;
  $("swipe").checked = state.swipe !== null;
  $("right-label").hidden = state.swipe === null;
  options($("left"), state.left);
  options($("right"), state.right);
  $("filters").dataset.keys = "";
  if (parts.has("x") && value("z") > 0 && Number.isFinite(value("x") + value("y"))) goTo(value("x"), value("y"), value("z"));
  if (parts.has("cell") && ids) {
    const cell = ids.indexOf(parts.get("cell"));
    if (cell >= 0) await (parts.has("x") ? select(cell) : visit(cell));
  }
  if (!parts.has("cell") || ids) written = location.hash;
}

// between=KEY~LOW~HIGH shows values of that range alone, in the colouring's own unit; without HIGH, from LOW on.
async function rangeFromHash(key, low, high) {
  const code = (value, other) => (Number.isFinite(Number(value ?? NaN)) ? Math.round((254 * Number(value)) / colourings.get(key).top) : other);
  if ((await wanted(key)) && !colourings.get(key).categories) state.range.set(key, [Math.max(code(low, 0), 0), Math.min(code(high, 254), 254)]);
}

// hide=KEY~A~B hides two categories; only=KEY~A~B hides all others: what a link from the report says.
function hideFromHash([key, ...names], only) {
  const entry = colourings.get(key);
  if (!entry?.categories) return;
  const known = [...entry.categories.keys(), entry.none], named = (code) => names.includes(entry.categories[code] ?? "none");
  state.hidden.set(key, new Set(known.filter((code) => named(code) !== only)));
}

document.addEventListener("DOMContentLoaded", start);
