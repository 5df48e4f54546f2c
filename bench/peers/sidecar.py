"""A sidecar as one writes it with FastAPI, for comparison: window in, latent and motif scores out.

It gets its options as JSON in its last argument, prints a line of JSON once it is ready, and ends when its standard
input does. Runs with pydantic 1 and 2, and from `python3 -c`, so that it may run where this file is not.
"""

import json
import os
import random
import socket
import sys
import threading

try:
    import fastapi
    import pydantic
    import uvicorn
except ImportError as missing:
    print(json.dumps({"port": 0, "missing": missing.name}), flush=True)
    sys.exit(0)

from fastapi.responses import JSONResponse

TIMESTEPS, CHANNELS, LATENT_DIMS, MOTIFS = 100, 9, 64, 12

options = json.loads(sys.argv[-1])


def array(item, count):
    """A list of exactly so many, whichever pydantic there is."""
    if pydantic.VERSION.startswith("1."):
        return pydantic.conlist(item, min_items=count, max_items=count)
    return pydantic.conlist(item, min_length=count, max_length=count)


class Window(pydantic.BaseModel):
    x: array(array(float, CHANNELS), TIMESTEPS)


class Result(pydantic.BaseModel):
    latent: array(float, LATENT_DIMS)
    motif_scores: array(float, MOTIFS)


def open_onnx(path):
    """The shipped model with ONNX Runtime, one thread. None where either is missing."""
    try:
        import numpy as np
        import onnxruntime
    except ImportError:
        return None
    if not path or not os.path.exists(path):
        return None
    with open(os.path.join(os.path.dirname(path), "model.json")) as file:
        normalization = json.load(file)["normalization"]
    mean = np.array(normalization["mean"], np.float32)
    std = np.array(normalization["std"], np.float32)
    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = one_thread.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, one_thread, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def infer(window):
        x = (np.array(window, np.float32)[None] - mean) / std
        latent, logits = session.run(["latent", "motif_logits"], {name: x})
        weights = np.exp(logits[0] - logits[0].max())
        return latent[0].tolist(), (weights / weights.sum()).tolist()

    return infer


def stub(_window):
    """No model: numbers that mean nothing."""
    scores = [random.random() for _ in range(MOTIFS)]
    total = sum(scores)
    return [random.uniform(-1, 1) for _ in range(LATENT_DIMS)], [score / total for score in scores]


def open_backend(wanted):
    """Returns what answers, and its name. `auto` takes the model where it can."""
    if wanted == "noop":
        latent, scores = options["result"]
        return (lambda window: ([window[0][0]] + latent[1:], scores)), "noop"
    infer = open_onnx(options.get("model")) if wanted in ("auto", "onnx") else None
    if infer is None and wanted == "onnx":
        sys.exit("Cannot run the model: onnxruntime, numpy or " + str(options.get("model")) + " is missing")
    return (infer, "onnx") if infer else (stub, "stub")


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(2048)  # before it is announced: uvicorn listens only afterwards
infer, backend = open_backend(options.get("backend", "auto"))
app = fastapi.FastAPI()


# Async, since a run of the model is shorter than the way to a thread and back. The answer is made here, as FastAPI's
# documentation advises for speed: it is not validated once more.
@app.post("/infer", response_model=Result)
async def post_infer(window: Window):
    latent, motif_scores = infer(window.x)
    return JSONResponse({"latent": latent, "motif_scores": motif_scores})


@app.get("/healthz")
async def healthz():
    return {"ok": True, "backend": backend}


def end_with_parent():
    while os.read(0, 4096):
        pass
    os._exit(0)


@app.on_event("startup")
async def announce():
    threading.Thread(target=end_with_parent, daemon=True).start()
    versions = {"fastapi": fastapi.__version__, "pydantic": pydantic.VERSION, "uvicorn": uvicorn.__version__}
    versions["python"] = sys.version.split()[0]
    for name in ("uvloop", "httptools"):
        try:
            versions[name] = __import__(name).__version__
        except ImportError:
            pass
    print(json.dumps({"port": listener.getsockname()[1], "backend": backend, "versions": versions}), flush=True)


# uvicorn takes uvloop and httptools where they are there.
uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run(sockets=[listener])
