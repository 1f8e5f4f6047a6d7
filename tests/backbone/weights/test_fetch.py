"""Downloads, against a server on this machine: whole and verified, or not at all and one line."""

import hashlib
import http.client
import http.server
import socket
import threading
import urllib.request
from dataclasses import replace

import pytest

from backbone.weights import fetch, find_entry, load_weights
from backbone.weights.__main__ import main
from backbone.weights.fetch import is_fetched, weights_dir

pytest.importorskip("h5py")

from tests.backbone.weights.weight_files import keras_layers, write_keras_old


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path; `announced` is the length it claims, `status` its answer."""

    def __init__(self, content: bytes) -> None:
        self.content, self.announced, self.status = content, len(content), 200
        self.headers: dict[str, str] = {}
        self.endless = False  # the content again and again, without a length
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up early is what some tests are about: nothing to print into another test's output."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    redirected = False  # answer 200 at the second address

    def do_HEAD(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        self.send_response(200 if self.redirected and "elsewhere" in self.path else self.server.status)
        if self.server.announced is not None:
            self.send_header("Content-Length", str(self.server.announced))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.server.content)
        while self.server.endless:
            self.wfile.write(self.server.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def content() -> bytes:
    return write_keras_old(keras_layers(0.25, num_classes=4, seed=1))


@pytest.fixture
def server(content):
    server = Server(content)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(server, content, monkeypatch, tmp_path):
    """A catalog entry on the server, and an empty cache."""
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    known = find_entry("keras-a025-128")
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    entry = replace(known, url=server.url("mobilenet.h5"), size=len(content), digest=digest)
    monkeypatch.setattr("backbone.weights.catalog.CATALOG", (entry,))
    return entry


def left_over() -> list[str]:
    return sorted(path.name for path in weights_dir().iterdir()) if weights_dir().exists() else []


def test_downloaded_once(entry, server, content, capfd):
    path = fetch(entry)
    assert path == weights_dir() / "mobilenet.h5" and path.read_bytes() == content
    shown = capfd.readouterr().err
    assert f"downloading {entry.url} to {path}" in shown and "keras-a025-128: 100%" in shown
    assert fetch(entry) == path
    assert server.requests == ["GET /mobilenet.h5"]
    assert left_over() == ["mobilenet.h5"]


def test_loaded_by_name_with_what_the_catalog_knows(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keras-a025-128").mkdir()  # a data folder of that name does not hide it
    weights = load_weights("keras-a025-128")
    assert (weights.backbone, weights.num_classes, weights.resolution, weights.top1) == ("a025", 4, 128, 41.3)
    assert weights.summary() == (f"a025 from {entry.url} (Keras .h5, 4 classes), published top-1 41.3 %, Apache-2.0")


@pytest.mark.parametrize("announced", [1, 1000])
def test_cut_short(entry, server, announced):
    server.announced += announced
    with pytest.raises(
        ValueError, match=r"^cannot download keras-a025-128 \(\d+ of \d+ bytes were received\): put the file from"
    ):
        fetch(entry)
    assert left_over() == []


def test_cut_short_without_any_length(entry, server):
    server.content = server.content[:-1000]
    server.announced = len(server.content)
    for known in (entry, replace(entry, size=None)):
        with pytest.raises(ValueError, match=r"mobilenet\.h5: refused: it has (\d+ bytes|sha256)"):
            fetch(known)
    assert left_over() == []


def test_cut_short_without_length_and_digest_does_not_stay_in_the_cache(entry, server, content):
    """What the server says of its end is then all there is: the file must be opened."""
    unknown = replace(entry, size=None, digest=None)
    server.content, server.announced = content[: len(content) * 9 // 10], None
    with pytest.raises(ValueError, match=r"mobilenet\.h5: truncated or damaged HDF5 file"):
        fetch(unknown)
    assert left_over() == []
    server.content = content
    assert fetch(unknown).read_bytes() == content
    server.content, server.announced = write_keras_old(keras_layers(0.5, num_classes=4, seed=1)), None
    (weights_dir() / "mobilenet.h5").unlink()
    with pytest.raises(ValueError, match=r"mobilenet\.h5: has width 0\.50, 0\.25 was asked for$"):
        fetch(unknown)
    assert left_over() == []


def test_a_cut_file_that_an_earlier_version_left_is_named(entry, content):
    weights_dir().mkdir(parents=True)
    path = weights_dir() / "mobilenet.h5"
    path.write_bytes(content[:-1000])
    with pytest.raises(ValueError, match=rf"^{path}: truncated .*; delete the file to download it again$"):
        fetch(replace(entry, size=None, digest=None))


@pytest.mark.parametrize("known", [True, False])
def test_endless(entry, server, content, known):
    """Ends at ten times the size: known, or of the parameters (0.47 million of four bytes at width 0.25)."""
    server.endless, server.announced = True, None
    most = 10 * len(content) if known else 40 * 470_072
    with pytest.raises(
        ValueError, match=rf"^cannot download .* \(more than {most:,} bytes were sent, which cannot be right\)"
    ):
        fetch(entry if known else replace(entry, size=None))
    assert left_over() == []


@pytest.mark.parametrize(
    ("announced", "match"),
    [
        ("abc", r"the server announces a length of 'abc'"),
        ("-5", r"the server announces a length of '-5'"),
        ("1e9", r"the server announces a length of '1e9'"),
        (10**12, r"the server announces 1,000,000,000,000 bytes, more than [\d,]+ cannot be right"),
    ],
)
def test_a_wrong_length_is_one_clear_line(entry, server, announced, match):
    server.announced = announced
    with pytest.raises(ValueError, match=rf"^cannot download keras-a025-128 \({match}\): put the file from"):
        fetch(entry)
    assert left_over() == []


def test_https_is_not_left(entry, server, content, monkeypatch):
    """Here "https" is plain http to the server: what counts is which address a redirect may lead to."""
    monkeypatch.setattr(
        urllib.request.HTTPSHandler, "https_open", lambda self, req: self.do_open(http.client.HTTPConnection, req)
    )
    secure = replace(entry, url=server.url("mobilenet.h5").replace("http:", "https:"))
    server.status, server.headers = 302, {"Location": server.url("elsewhere.h5")}
    with pytest.raises(
        ValueError, match=r"^cannot download .* \(redirected from https to http://127\.0\.0\.1:\d+/else"
    ):
        fetch(secure)
    assert server.requests == ["GET /mobilenet.h5"] and left_over() == []
    monkeypatch.setattr(Handler, "redirected", True)
    server.headers = {"Location": server.url("elsewhere.h5").replace("http:", "https:")}
    assert fetch(secure).read_bytes() == content


def test_another_hash(entry, server):
    server.content = bytes([*server.content[:-1], server.content[-1] ^ 1])
    with pytest.raises(ValueError, match=r"refused: it has sha256 \w{64}, keras-a025-128 has \w{64}$"):
        fetch(entry)
    assert left_over() == []


def test_a_page_instead_of_a_file(entry, server):
    server.content = b"<html>Please log in</html>"
    server.announced = len(server.content)
    with pytest.raises(ValueError, match=r"refused: no weight file, but a web page about the file"):
        fetch(replace(entry, size=None, digest=None))
    assert left_over() == []


def test_not_found(entry, server):
    server.status = 404
    with pytest.raises(ValueError, match=r"^cannot download keras-a025-128 \(HTTP 404\)"):
        fetch(entry)
    assert left_over() == []


def test_offline_one_line_says_which_file_to_put_where(entry, capsys, tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mobilenet.h5"
    monkeypatch.setattr("backbone.weights.catalog.CATALOG", (replace(entry, url=url),))
    assert main(["fetch", "keras-a025-128"]) == 2
    told = capsys.readouterr()
    path = tmp_path / "cache" / "weights" / "mobilenet.h5"
    assert told.out == ""
    reason, _, advice = told.err.partition(": put ")
    assert reason.startswith("error: cannot download keras-a025-128 (") and "refused" in reason
    assert advice == f"the file from {url} at {path} and run again\n"


def test_put_there_by_hand(entry, server, content):
    weights_dir().mkdir(parents=True)
    (weights_dir() / "mobilenet.h5").write_bytes(content)
    assert fetch(entry).read_bytes() == content
    (weights_dir() / "mobilenet.h5").write_bytes(content[:-1])
    with pytest.raises(ValueError, match=rf"^{weights_dir()}/mobilenet\.h5: refused: it has \d+ bytes, keras-a025-128"):
        fetch(entry)
    assert server.requests == []


def test_hash_of_the_file_in_an_archive(entry, server, content):
    from tests.backbone.weights.test_damaged import zipped

    server.content = zipped(content, "net.h5")
    server.announced = len(server.content)
    archive = replace(entry, url=server.url("net.h5.zip"), size=None, digest=None)
    right = replace(archive, inner_digest=f"sha1:{hashlib.sha1(content).hexdigest()}")
    with pytest.raises(ValueError, match=r"refused: the file in it has sha1 \w{40}, keras-a025-128 has 0{40}$"):
        fetch(replace(archive, inner_digest=f"sha1:{'0' * 40}"))
    assert left_over() == []
    assert fetch(right).name == "net.h5.zip"


@pytest.fixture
def hub_entry(server, monkeypatch, tmp_path):
    """A Hugging Face repository on the server, and an empty hub cache."""
    hub = pytest.importorskip("huggingface_hub")
    timm = pytest.importorskip("timm")
    safetensors = pytest.importorskip("safetensors.torch")
    assert timm
    from timm.models.efficientnet import _gen_mobilenet_v1

    server.content = safetensors.save(_gen_mobilenet_v1("mobilenetv1_100", 0.25, num_classes=4).state_dict())
    server.announced = len(server.content)
    server.headers = {"ETag": '"abc123"', "X-Repo-Commit": "0" * 40}
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    template = server.url("{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(hub.constants, "ENDPOINT", server.url("").rstrip("/"))
    monkeypatch.setattr(hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)  # both are HF_ENDPOINT
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return replace(find_entry("timm-a100"), width_mult=0.25)


def test_hub(hub_entry, server, tmp_path, monkeypatch):
    assert not is_fetched(hub_entry)
    path = fetch(hub_entry)
    assert is_fetched(hub_entry)
    assert path.read_bytes() == server.content and (tmp_path / "hub") in path.parents
    number = len(server.requests)
    assert any(
        line.endswith("/timm/mobilenetv1_100.ra4_e3600_r224_in1k/resolve/main/model.safetensors")
        for line in server.requests
    )
    assert fetch(hub_entry) == path and len(server.requests) == number  # from its cache
    monkeypatch.setattr("backbone.weights.catalog.CATALOG", (hub_entry,))
    weights = load_weights("timm-a100")
    assert (weights.layout, weights.backbone, weights.preprocessing.interpolation) == ("timm", "a025", "bicubic")


def test_hub_file_put_there_by_hand(hub_entry, server):
    path = weights_dir() / "mobilenetv1_100.ra4_e3600_r224_in1k.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(server.content)
    assert fetch(hub_entry) == path and server.requests == []


def test_hub_out_of_reach(hub_entry, server):
    server.status = 503
    with pytest.raises(
        ValueError, match=r"^cannot download timm-a100 \(HTTP 503\): put the file from https://hugg.* at "
    ):
        fetch(hub_entry)
