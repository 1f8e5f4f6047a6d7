// The model of this folder on pixels, in the browser, the way predict.py does it. Nothing leaves the device.
//
//     import { loadModel } from "./model.js";
//     const model = await loadModel();
//     const results = await model.run(context.getImageData(0, 0, width, height));
//
// Images are { data, width, height } with RGBA bytes, as ImageData.

/** The model, its description (`facts`, of model.json) and `run(image, options)`; `progress(text)` says what is done. */
export async function loadModel(folder = new URL(".", import.meta.url), progress = () => {}) {
  const url = (name) => new URL(name, folder);
  const facts = JSON.parse(new TextDecoder().decode(await read(url("model.json"))));
  progress("loading the runtime");
  const ort = await loadRuntime(facts.runtime, url);
  progress("loading the model");
  const open = async (name) => ort.InferenceSession.create(await read(url(name)), { executionProviders: ["wasm"] });
  const session = await open("model.onnx");
  const network = async (squares) => {
    const side = facts.resolution;
    const bytes = new Uint8Array(squares.length * side * side * 3);
    squares.forEach((square, i) => bytes.set(square, i * side * side * 3));
    return session.run({ images: new ort.Tensor("uint8", bytes, [squares.length, side, side, 3]) });
  };
  const finder = facts.app === "faceattr" ? makeFinder(ort, await open("faces.onnx")) : null;
  const run = { detection: detect, finegrained: classify, faceattr: describeFaces }[facts.app];
  return { facts, threads: ort.env.wasm.numThreads, run: (image, options = {}) => run(image, facts, network, options, finder) };
}

/** onnxruntime-web, from this folder or from where model.json says; a file that is another one is refused. */
async function loadRuntime({ base, files }, url) {
  const fetched = async (ending) => {
    const name = Object.keys(files).find((one) => one.endsWith(ending));
    return read(url(base + name), files[name]);
  };
  const script = new Blob([await fetched(".mjs")], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(script));
  ort.env.wasm.wasmBinary = await fetched(".wasm");
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
  ort.env.logLevel = "error";
  return ort;
}

async function read(url, integrity) {
  const answer = await fetch(url, integrity ? { integrity } : {});
  if (!answer.ok) throw new Error(`${url} cannot be read: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// ---- the three apps --------------------------------------------------------------------------------------------

/** Objects: { box: [x0, y0, x1, y1] in pixels, score, name }, best first, one name for each place. */
async function detect(image, facts, network, { minScore = facts.threshold ?? 0.3 }) {
  const { boxes_xyxy: boxes, scores, labels } = await network([resize(image, facts.resolution, facts.resolution)]);
  const size = [image.width, image.height, image.width, image.height];
  const found = [];
  for (let i = 0; i < scores.data.length && scores.data[i] > 0; i++) {
    const label = Number(labels.data[i]);
    const box = size.map((side, k) => boxes.data[4 * i + k] * side);
    if (scores.data[i] >= minScore) found.push({ box, score: scores.data[i], name: facts.class_names[label - 1] });
  }
  return suppress(found, facts.nms_iou);
}

/** The most probable classes: { name, score }, best first; `unknown` is true where it is like none of them. */
async function classify(image, facts, network, { top = 5 }) {
  const side = Math.max(1, halfToEven(facts.crop * Math.min(image.width, image.height)));
  const [left, top_] = [(image.width - side) >> 1, (image.height - side) >> 1];
  const { logits } = await network([resize(cut(image, left, top_, side, side), facts.resolution, facts.resolution)]);
  const best = Math.max(...logits.data);
  const weights = Array.from(logits.data, (logit) => Math.exp((logit - best) / facts.temperature));
  const sum = weights.reduce((a, b) => a + b, 0);
  const guesses = weights.map((weight, k) => ({ name: facts.class_names[k], score: weight / sum }));
  const results = guesses.sort((a, b) => b.score - a.score).slice(0, top);
  results.unknown = facts.unknown_threshold !== null && best < facts.unknown_threshold;
  return results;
}

/** Faces, the largest first: { box, score, attributes: [{ name, score }] } of those that are present. */
async function describeFaces(image, facts, network, { live = false }, finder) {
  const faces = await finder(image, live);
  if (!faces.length) return [];
  const crops = faces.map(({ box: [x0, y0, x1, y1] }) => {
    const longer = Math.max(x1 - x0, y1 - y0);
    const side = Math.max(1, halfToEven(longer * (1 + 2 * facts.face_margin)));
    const left = halfToEven((x0 + x1 - side) / 2);
    const top = halfToEven((y0 + y1 - side) / 2 - facts.face_drop * longer);
    return resize(cut(image, left, top, side, side), facts.resolution, facts.resolution);
  });
  const { logits } = await network(crops);
  const count = facts.class_names.length;
  return faces.map((face, i) => {
    const every = facts.class_names.map((name, a) => {
      const score = 1 / (1 + Math.exp(-logits.data[i * count + a] / facts.temperatures[a]));
      return { name, score, present: score >= facts.thresholds[a] };
    });
    const shown = every.filter(({ name, present }) => present && facts.shown.includes(name));
    return { ...face, attributes: shown.sort((a, b) => b.score - a.score) };
  });
}

// ---- faces: YuNet, searched as apps/faceattr/model/face_finder.py does ------------------------------------------

const [FINE_SIDE, COARSE_SIDE, SMALLEST_FACE, LARGEST_FACE, LEAST_SIDE] = [1280, 320, 10, 300, 64];
const [MIN_SCORE, SAME_FACE, INSIDE] = [0.7, 0.3, 0.7];

function makeFinder(ort, session) {
  return async (image, live) => {
    const longer = Math.max(image.width, image.height);
    const faces = await look(ort, session, image, COARSE_SIDE);
    if (!live && longer > COARSE_SIDE) faces.push(...(await look(ort, session, image, FINE_SIDE)));
    const kept = suppress(faces, SAME_FACE, INSIDE);
    return kept.sort((a, b) => area(b.box) - area(a.box));
  };
}

async function look(ort, session, image, longest) {
  const shrink = Math.max(1, Math.max(image.width, image.height) / longest);
  const [w, h] = [halfToEven(image.width / shrink), halfToEven(image.height / shrink)];
  if (Math.min(w, h) < SMALLEST_FACE) return [];
  const small = resize(image, w, h);
  const [width, height] = [w, h].map((side) => Math.ceil(Math.max(side, LEAST_SIDE) / 32) * 32);
  const planes = new Float32Array(3 * width * height); // B, G, R, 0 beyond the photo
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      for (let c = 0; c < 3; c++) planes[(c * height + y) * width + x] = small[3 * (y * w + x) + 2 - c];
    }
  }
  const outputs = await session.run({ input: new ort.Tensor("float32", planes, [1, 3, height, width]) });
  const [backX, backY] = [image.width / w, image.height / h];
  const found = [];
  for (const stride of [8, 16, 32]) {
    const [cls, obj, bbox] = ["cls", "obj", "bbox"].map((name) => outputs[`${name}_${stride}`].data);
    for (let i = 0; i < cls.length; i++) {
      const score = Math.sqrt(Math.min(1, Math.max(0, cls[i])) * Math.min(1, Math.max(0, obj[i])));
      if (score < MIN_SCORE) continue;
      const [column, row] = [i % (width / stride), Math.floor(i / (width / stride))];
      const [cx, cy] = [(column + bbox[4 * i]) * stride, (row + bbox[4 * i + 1]) * stride];
      const [bw, bh] = [Math.exp(bbox[4 * i + 2]) * stride, Math.exp(bbox[4 * i + 3]) * stride];
      const box = [(cx - bw / 2) * backX, (cy - bh / 2) * backY, (cx + bw / 2) * backX, (cy + bh / 2) * backY];
      if (longest === COARSE_SIDE || Math.max(bw, bh) <= LARGEST_FACE) found.push({ box, score });
    }
  }
  return suppress(found, SAME_FACE);
}

// ---- boxes -------------------------------------------------------------------------------------------------------

const area = ([x0, y0, x1, y1]) => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);

/** Without the boxes that overlap a better one by more than `iou`, or lie in it with more than `inside` of their area. */
function suppress(found, iou, inside = Infinity) {
  const kept = [];
  for (const one of [...found].sort((a, b) => b.score - a.score)) {
    const isSame = kept.some(({ box }) => {
      const [a, b] = [one.box, box];
      const overlap = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
      return overlap > iou * (area(a) + area(b) - overlap) || overlap > inside * area(a);
    });
    if (!isSame) kept.push(one);
  }
  return kept;
}

// ---- pixels: what apps/common/images.py `resize` does -------------------------------------------------------------

/** As Python's round(). */
function halfToEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2 === 0 ? 0 : 1) : Math.round(value);
}

/** A part of an image; beyond it its edge is repeated. */
function cut(image, left, top, width, height) {
  const from = new Uint32Array(image.data.buffer, image.data.byteOffset, image.width * image.height);
  const to = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = Math.min(Math.max(top + y, 0), image.height - 1) * image.width;
    for (let x = 0; x < width; x++) to[y * width + x] = from[row + Math.min(Math.max(left + x, 0), image.width - 1)];
  }
  return { data: new Uint8ClampedArray(to.buffer), width, height };
}

/** RGB bytes (height, width, 3): linear; where it shrinks much, groups of pixels are averaged first. */
export function resize(image, width, height) {
  const [downX, downY] = [Math.floor(image.width / width), Math.floor(image.height / height)];
  if (Math.min(downX, downY) > 1 || Math.max(downX, downY) > 2) {
    image = average(image, Math.floor(image.width / Math.max(1, downX)), Math.floor(image.height / Math.max(1, downY)));
  }
  return linear(image, width, height);
}

function average(image, width, height) {
  const { data, width: w, height: h } = image;
  const [columns, rows] = [shares(w, width), shares(h, height)];
  const result = new Uint8ClampedArray(4 * width * height);
  const sums = new Float32Array(4 * w);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    rows[y].weights.forEach((weight, i) => {
      const row = 4 * w * (rows[y].start + i);
      for (let x = 0; x < 4 * w; x++) sums[x] += weight * data[row + x];
    });
    for (let x = 0; x < width; x++) {
      const { start, weights } = columns[x];
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += weights[i] * sums[4 * (start + i) + c];
        result[4 * (y * width + x) + c] = sum; // rounded by the array
      }
    }
  }
  return { data: result, width, height };
}

/** Which pixels of `from` each of `to` pixels covers, and the share of each. */
function shares(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, i) => {
    const [low, high] = [i * scale, Math.min((i + 1) * scale, from)];
    const [start, end] = [Math.floor(low + 1e-6), Math.ceil(high - 1e-6)];
    const weights = Array.from({ length: end - start }, (_, k) => {
      return (Math.min(start + k + 1, high) - Math.max(start + k, low)) / (high - low);
    });
    return { start, weights };
  });
}

function linear({ data, width: w, height: h }, width, height) {
  const result = new Uint8Array(3 * width * height);
  const [columns, rows] = [neighbours(w, width), neighbours(h, height)];
  for (let y = 0, at = 0; y < height; y++) {
    const [above, below] = [rows.first[y] * w, rows.second[y] * w];
    const down = rows.share[y];
    for (let x = 0; x < width; x++) {
      const [left, right] = [4 * columns.first[x], 4 * columns.second[x]];
      const along = columns.share[x];
      for (let c = 0; c < 3; c++) {
        const upper = data[4 * above + left + c] * (2048 - along) + data[4 * above + right + c] * along;
        const lower = data[4 * below + left + c] * (2048 - along) + data[4 * below + right + c] * along;
        result[at++] = ((((2048 - down) * (upper >> 4)) >> 16) + ((down * (lower >> 4)) >> 16) + 2) >> 2; // OpenCV's
      }
    }
  }
  return result;
}

/** The two pixels of `from` between which each of `to` lies, and the second's share in 2048ths. */
function neighbours(from, to) {
  const [first, second, share] = [new Int32Array(to), new Int32Array(to), new Int32Array(to)];
  for (let i = 0; i < to; i++) {
    const place = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    first[i] = Math.floor(place);
    second[i] = Math.min(first[i] + 1, from - 1);
    share[i] = Math.round((place - first[i]) * 2048);
  }
  return { first, second, share };
}
