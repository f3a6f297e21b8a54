"""Small data sets in the formats of MNIST and CIFAR, and a server that hands out files."""
from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import pickle
import tarfile
import threading

import numpy as np

NOWHERE = "http://127.0.0.1:9/"
MNIST_NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte",
               "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def mnist_arrays(train=5, test=3, size=28):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (train, size, size), np.uint8),
            rng.integers(0, 10, train, np.uint8),
            rng.integers(0, 256, (test, size, size), np.uint8), rng.integers(0, 10, test, np.uint8)]


def mnist_files(arrays):
    """Name to gzipped contents."""
    return {f"{name}.gz": gzip.compress(idx(array), mtime=0)
            for name, array in zip(MNIST_NAMES, arrays, strict=True)}


def put_mnist(folder, arrays, packed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in mnist_files(arrays).items():
        (folder / (name if packed else name[:-3])).write_bytes(
            content if packed else gzip.decompress(content))


def md5(content):
    return hashlib.md5(content).hexdigest()


class Python2(pickle._Pickler):
    """Pickles bytes and text alike, as the strings of Python 2, in which the files were made."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text if isinstance(text, bytes) else text.encode("latin-1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def pickled(batch):
    file = io.BytesIO()
    Python2(file, 2).dump(batch)
    return file.getvalue()


def cifar_batches(names, labels="labels", classes=10, size=4):
    """Name to (images (n, 3072), labels)."""
    rng = np.random.default_rng(1)
    return {name: (rng.integers(0, 256, (size, 3072), np.uint8),
                   rng.integers(0, classes, size).tolist()) for name in names}


def cifar_files(batches, meta_name, meta, labels="labels", pickled=pickled):
    files = {name: pickled({"data": images, labels: found, "batch_label": "x"})
             for name, (images, found) in batches.items()}
    return {**files, meta_name: pickled(meta)}


def archive(folder, files):
    """A .tar.gz with the files in a folder, and a few that nobody wants."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {"readme.html": b"hello", **files}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.addfile(tarfile.TarInfo(f"{folder}/empty"))
    return out.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``files``, with ranges unless told otherwise. ``cuts``: where answers break off."""

    files: dict
    cuts: list
    log: list
    ranges = True

    def do_GET(self):
        content, asked = self.files.get(self.path[1:]), self.headers["Range"]
        self.log.append((self.path[1:], asked))
        if content is None:
            self.send_error(404)
            return
        start = int(asked[6:-1]) if asked and self.ranges else 0
        if start >= len(content) and asked:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range",
                             f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:self.cuts.pop(0) if self.cuts else None])

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(files):
    """The handler of a server on this machine; its ``url`` ends in a slash."""
    handler = type("ThisHandler", (Handler,), {"files": dict(files), "log": [], "cuts": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        handler.url = f"http://127.0.0.1:{server.server_port}/"
        yield handler
        server.shutdown()
