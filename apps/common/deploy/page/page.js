// The page: photo, webcam and video through the model of this folder, drawn and listed.

import { loadModel } from "./model.js";

const $ = (selector) => document.querySelector(selector);
const canvas = $("canvas");
const MOST_PIXELS = 1 << 24; // of a canvas on iOS; larger photos are made smaller
const context = canvas.getContext("2d", { willReadFrequently: true });
const film = document.createElement("video");
film.muted = film.playsInline = true;

let model; // of `loadModel`
let photo; // the last one, drawn anew when the slider moves
let session = 0; // a number for each source; a loop ends when it is no longer its own
let facing = "environment";

function say(text) {
  $("#status").textContent = text;
}

/** What was found in something else does not stay beside the reason. */
function fail(reason) {
  context.clearRect(0, 0, canvas.width, canvas.height);
  $("#results").replaceChildren();
  say(reason);
}

function title(facts) {
  const what = { detection: "Objects", finegrained: "What is it?", faceattr: "Faces" }[facts.app];
  const names = facts.class_names;
  const some = names.slice(0, 6).join(", ") + (names.length > 6 ? `, ... (${names.length} in all)` : "");
  $("#title").textContent = document.title = what;
  $("#about").textContent = `MobileNet V1 ${facts.backbone}, ${facts.resolution} pixels; it knows ${some}`;
}

// ---- results -------------------------------------------------------------------------------------------------------

function colour(name) {
  const sum = new TextEncoder().encode(name).reduce((a, b) => a + b, 0);
  return `hsl(${((sum * 47) % 180) * 2} 80% 60%)`;
}

function drawBoxes(results) {
  const unit = Math.max(canvas.width, canvas.height) / 500;
  context.lineWidth = Math.max(1, 1.5 * unit);
  context.font = `${Math.max(12, 11 * unit)}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const { box: [x0, y0, x1, y1], name = "face", score } of [...results].reverse()) {
    context.strokeStyle = colour(name);
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    const text = `${name} ${score.toFixed(2)}`;
    const [width, height] = [context.measureText(text).width + 6, Math.max(12, 11 * unit) * 1.3];
    const left = Math.max(0, Math.min(x0, canvas.width - width));
    const top = Math.max(0, y0 - height);
    context.fillStyle = colour(name);
    context.fillRect(left, top, width, height);
    context.fillStyle = "black";
    context.fillText(text, left + 3, top + 2);
  }
}

function lines(results) {
  if (model.facts.app === "detection") return results.map(({ name, score }) => [name, score.toFixed(2)]);
  if (model.facts.app === "finegrained") return results.map(({ name, score }) => [name, `${(100 * score).toFixed(0)} %`]);
  return results.flatMap(({ attributes }, i) => [
    [`face ${i + 1}`, attributes.length ? "" : "none of the attributes"],
    ...attributes.map(({ name, score }) => [name.replaceAll("_", " "), `${(100 * score).toFixed(0)} %`]),
  ]);
}

function show(results) {
  if (results.some((one) => one.box)) drawBoxes(results);
  const items = lines(results).map((parts) => {
    const item = document.createElement("li");
    item.append(...parts.map((part) => Object.assign(document.createElement("span"), { textContent: part })));
    return item;
  });
  $("#results").replaceChildren(...items);
  window.results = results; // for scripts and tests
}

function count(results) {
  if (model.facts.app === "finegrained") return results.unknown ? "None of the classes; nearest:" : "Best guesses:";
  const what = model.facts.app === "faceattr" ? "face" : "object";
  return results.length ? `${results.length} ${what}${results.length === 1 ? "" : "s"}` : `No ${what} found`;
}

const options = (live) => ({ live, ...($("#slider").hidden ? {} : { minScore: Number($("#slider input").value) }) });

// ---- sources -------------------------------------------------------------------------------------------------------

const release = (stream) => stream?.getTracks().forEach((track) => track.stop());

function begin() {
  session += 1;
  photo = null;
  film.pause();
  release(film.srcObject);
  film.srcObject = null;
  film.removeAttribute("src");
  $("#stop").hidden = $("#flip").hidden = true;
  $("#hint").hidden = true;
  return session;
}

async function showPhoto(file) {
  const own = begin();
  say("Reading the photo ...");
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    if (own === session) fail(`${file.name || "It"} is not a photo that this browser can read`);
    return;
  }
  if (own === session) await answer((photo = picture), own);
}

async function answer(picture, own) {
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (picture.width * picture.height)));
  [canvas.width, canvas.height] = [picture.width, picture.height].map((side) => Math.max(1, Math.floor(side * scale)));
  context.fillStyle = "white"; // below what is transparent
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const start = performance.now();
  const results = await model.run(context.getImageData(0, 0, canvas.width, canvas.height), options(false));
  if (own !== session) return;
  show(results);
  say(`${count(results)} (${Math.round(performance.now() - start)} ms)`);
}

async function watch(open) {
  const own = begin();
  try {
    await open(own);
    if (own === session) await film.play();
  } catch (error) {
    if (own === session) fail(error.name === "NotAllowedError" ? "The camera was not allowed" : `It cannot be played: ${error.message}`);
    return;
  }
  if (own !== session) return;
  $("#stop").hidden = false;
  let [frames, since] = [0, performance.now()];
  for (let last = -1; own === session && !film.ended; ) {
    await nextFrame();
    if (own !== session || !film.videoWidth || film.currentTime === last) continue;
    last = film.currentTime;
    if (canvas.width !== film.videoWidth || canvas.height !== film.videoHeight) {
      [canvas.width, canvas.height] = [film.videoWidth, film.videoHeight];
    }
    context.drawImage(film, 0, 0);
    const results = await model.run(context.getImageData(0, 0, canvas.width, canvas.height), options(true));
    if (own !== session) return;
    show(results);
    frames += 1;
    const seconds = (performance.now() - since) / 1000;
    if (seconds >= 1) {
      window.framesPerSecond = frames / seconds;
      say(`${count(results)} (${window.framesPerSecond.toFixed(0)} frames a second)`);
      [frames, since] = [0, performance.now()];
    }
  }
  if (own === session) stop();
}

/** When there is something new to show; in a tab that is not seen, too. */
function nextFrame() {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 100);
    requestAnimationFrame(() => (clearTimeout(timer), resolve()));
  });
}

function stop() {
  begin();
  say("Stopped");
}

function useCamera() {
  return watch(async (own) => {
    if (!navigator.mediaDevices) throw new Error("a camera needs https, or localhost");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 640 } } });
    if (own !== session) return release(stream); // it was allowed when something else was already chosen
    film.srcObject = stream;
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    if (own === session) $("#flip").hidden = cameras.length < 2;
  });
}

/** The file that was chosen; the same one may be chosen again. */
function chosen({ target }) {
  const [file] = target.files;
  target.value = "";
  return file;
}

window.onunhandledrejection = ({ reason }) => fail(`It failed: ${reason.message}`);
$("#photo").onchange = (event) => showPhoto(chosen(event));
$("#video").onchange = (event) => {
  const file = chosen(event);
  return watch(async () => void (film.src = URL.createObjectURL(file)));
};
$("#webcam").onclick = useCamera;
$("#flip").onclick = () => ((facing = facing === "user" ? "environment" : "user"), useCamera());
$("#stop").onclick = stop;
$("#slider input").oninput = () => {
  $("#slider output").textContent = $("#slider input").value;
  if (photo) answer(photo, session);
};
$("#picture").ondragover = (event) => (event.preventDefault(), $("#picture").classList.add("over"));
$("#picture").ondragleave = () => $("#picture").classList.remove("over");
$("#picture").ondrop = (event) => {
  event.preventDefault();
  $("#picture").classList.remove("over");
  if (model && event.dataTransfer.files[0]) showPhoto(event.dataTransfer.files[0]);
};

try {
  $("#about").textContent = "";
  for (const input of document.querySelectorAll("input[type=file]")) input.disabled = true;
  model = await loadModel(undefined, (what) => say(`${what} ...`));
  title(model.facts);
  if (model.facts.app === "detection") {
    $("#slider").hidden = false;
    $("#slider input").value = model.facts.threshold ?? 0.3;
    $("#slider output").textContent = $("#slider input").value;
  }
  for (const input of document.querySelectorAll("input, button")) input.disabled = false;
  say(`Ready (${model.threads} thread${model.threads === 1 ? "" : "s"})`);
  document.body.dataset.ready = "yes";
} catch (error) {
  say(`The model cannot be loaded: ${error.message}`);
}
