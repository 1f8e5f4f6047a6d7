// Gradio's webcam keeps the camera on after Stop, and after its tab was left. Here both release it, Record asks for it
// again, and a camera that cannot be had is told on the page. On a slow line frames would pile up: only the newest waits.
(() => {
  const RECORD = 'button[aria-label="capture photo"]';
  const HELP = {
    NotAllowedError: "The browser does not let this page use the camera: allow it beside the address, then try again.",
    NotFoundError: "No camera was found: connect one, then try again.",
    OverconstrainedError: "That camera is no longer there: reload the page to choose another.",
    NotReadableError: "The camera is in use by another program: close that, then try again.",
    TypeError: "Browsers give a page the camera only on this machine (localhost) or by https.",
  };
  let lastSettings = {};

  const panelOf = (element) => element.closest('[data-testid="image"]');
  const isLive = (video) => Boolean(video.srcObject?.getTracks().some((track) => track.readyState === "live"));

  function release(video) {
    for (const track of video.srcObject?.getTracks() ?? []) {
      lastSettings = track.getSettings();
      track.stop();
    }
  }

  function tell(error) {
    for (const box of document.querySelectorAll(".camera-says")) {
      const words = box.querySelector("p") ?? box;
      box.dataset.usual ??= words.textContent;
      words.textContent = error ? (HELP[error.name] ?? `The camera cannot be used: ${error.message}`) : box.dataset.usual;
      box.classList.toggle("problem", Boolean(error));
      box.setAttribute("role", "status");
    }
  }

  async function resume(video) {
    const { deviceId, width, height } = lastSettings;
    const wanted = { width: { ideal: width }, height: { ideal: height } };
    if (deviceId) wanted.deviceId = { exact: deviceId };
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: wanted });
    await video.play();
  }

  function onRecordButton(event, button) {
    const video = panelOf(button)?.querySelector("video");
    if (!video) return;
    if (!button.querySelector('[title="start recording"]')) {
      setTimeout(() => release(video)); // after Gradio has taken the click for Stop
    } else if (!isLive(video)) {
      event.stopPropagation();
      resume(video).then(() => { tell(null); button.click(); }, tell);
    }
  }

  function releaseHidden() {
    for (const video of document.querySelectorAll("video")) {
      if (video.offsetParent !== null || !video.srcObject || !isLive(video)) continue;
      const button = panelOf(video)?.querySelector(RECORD);
      if (button && !button.querySelector('[title="start recording"]')) button.click();
      release(video);
    }
  }

  const MOST_ON_THE_WAY = 2; // frames
  const plainFetch = window.fetch.bind(window);
  let onTheWay = 0, waiting = null;

  function sendFrame() {
    if (!waiting || onTheWay >= MOST_ON_THE_WAY) return;
    const { request, answer } = waiting;
    [waiting, onTheWay] = [null, onTheWay + 1];
    answer(plainFetch(...request).finally(() => { onTheWay -= 1; sendFrame(); }));
  }

  window.fetch = (...request) => {
    if (!/\/stream\/[^/]+$/.test(String(request[0]))) return plainFetch(...request);
    waiting?.answer(new Response("{}")); // as if it had been sent: nobody waits for it
    return new Promise((answer) => { waiting = { request, answer }; sendFrame(); });
  };

  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target : null;
    const button = target?.closest(RECORD);
    const input = target?.closest("button.take-photo")?.previousElementSibling;
    input?.setAttribute("capture", "environment"); // a phone's camera, not its list of files
    if (button) onRecordButton(event, button);
    else if (target?.closest('[role="tab"]')) setTimeout(releaseHidden, 300);
    else if (target?.closest('[title="grant webcam access"]')) tell(null);
  }, true);

  document.addEventListener("change", (event) => { // of the camera: the one before is not needed any more
    if (!event.target.matches?.('select[aria-label="select source"]')) return;
    const video = panelOf(event.target)?.querySelector("video");
    if (video) release(video);
  }, true);

  window.addEventListener("unhandledrejection", (event) => {
    const error = event.reason;
    if (error?.name in HELP && (error instanceof DOMException || !navigator.mediaDevices)) tell(error);
  });
})();
