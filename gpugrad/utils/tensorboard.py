"""torch.utils.tensorboard: SummaryWriter, for the package tensorboard, which must be installed."""
from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor

try:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
except ImportError as error:
    raise ImportError("torch.utils.tensorboard needs the package tensorboard: pip install "
                      "tensorboard") from error


def _array(x: Any) -> np.ndarray[Any, Any]:
    """A tensor, on any device, or what NumPy takes, as an array."""
    if isinstance(x, Tensor):
        x = x.detach().cpu()
        x = (x.float() if x._a.dtype.kind == "V" else x).numpy()
    return np.asarray(x)


def _number(x: Any) -> float:
    a = _array(x)
    if a.size != 1:
        raise AssertionError(f"scalar should be 0D, but it has shape {tuple(a.shape)}")
    return float(a.reshape(()))


class FileWriter:
    """Events into a file of a folder."""

    def __init__(self, log_dir: str | os.PathLike[str], max_queue: int = 10, flush_secs: int = 120,
                 filename_suffix: str = "") -> None:
        self.event_writer = EventFileWriter(str(log_dir), max_queue, flush_secs, filename_suffix)

    def get_logdir(self) -> str:
        """The folder."""
        folder: str = self.event_writer.get_logdir()
        return folder

    def add_summary(self, values: Any, step: Any, walltime: float | None) -> None:
        """Write values of a summary at a step."""
        event = event_pb2.Event(summary=summary_pb2.Summary(value=values),
                                wall_time=time.time() if walltime is None else walltime)
        if step is not None:
            event.step = int(step)
        self.event_writer.add_event(event)

    def flush(self) -> None:
        self.event_writer.flush()

    def close(self) -> None:
        self.event_writer.close()


class SummaryWriter:
    """Writes numbers, histograms, pictures and texts for TensorBoard.

    log_dir: by default runs/<time>_<host><comment>. purge_step: forget what was written from this
    step on by an earlier program.
    """

    def __init__(self, log_dir: Any = None, comment: str = "", purge_step: int | None = None,
                 max_queue: int = 10, flush_secs: int = 120, filename_suffix: str = "") -> None:
        if not log_dir:
            import socket

            now = time.strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = str(log_dir)
        self._options = max_queue, flush_secs, filename_suffix
        self._writers: dict[str, FileWriter] = {}
        self._hparams = 0
        self._purge_step = purge_step
        self._writer()

    def _writer(self, folder: str = "") -> FileWriter:
        """The writer of the folder, or of one below it."""
        if folder not in self._writers:
            new = FileWriter(os.path.join(self.log_dir, folder) if folder else self.log_dir,
                             *self._options)
            self._writers[folder] = new
            if self._purge_step is not None and not folder:
                step = self._purge_step
                for event in (event_pb2.Event(step=step, file_version="brain.Event:2"),
                              event_pb2.Event(step=step, session_log=event_pb2.SessionLog(
                                  status=event_pb2.SessionLog.START))):
                    event.wall_time = time.time()
                    new.event_writer.add_event(event)
        return self._writers[folder]

    @property
    def file_writer(self) -> FileWriter:
        return self._writer()

    def get_logdir(self) -> str:
        """The folder that is written to."""
        return self.log_dir

    # What there is to write ----------------------------------------------------------------------

    def add_scalar(self, tag: str, scalar_value: Any, global_step: Any = None,
                   walltime: float | None = None, new_style: bool = False,
                   double_precision: bool = False) -> None:
        """One number; new_style: as a tensor, with double_precision in float64."""
        self._writer().add_summary([_scalar(tag, _number(scalar_value), new_style,
                                            double_precision)], global_step, walltime)

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any],
                    global_step: Any = None, walltime: float | None = None) -> None:
        """Several numbers in one chart; each goes to a folder of its own."""
        for tag, value in tag_scalar_dict.items():
            folder = f"{main_tag.replace('/', '_')}_{tag}"
            self._writer(folder).add_summary([_scalar(main_tag, _number(value))], global_step,
                                             walltime)

    def add_tensor(self, tag: str, tensor: Any, global_step: Any = None,
                   walltime: float | None = None) -> None:
        """A whole tensor."""
        a = _array(tensor)
        self._writer().add_summary([_whole(tag, a, "")], global_step, walltime)

    def add_histogram(self, tag: str, values: Any, global_step: Any = None,
                      bins: Any = "tensorflow", walltime: float | None = None,
                      max_bins: int | None = None) -> None:
        """How values are distributed. bins: their edges, or a rule of numpy.histogram; by default
        edges that grow by a tenth each."""
        a = _array(values).astype(np.float64).reshape(-1)
        edges = _growing_edges() if isinstance(bins, str) and bins == "tensorflow" else bins
        self._writer().add_summary([summary_pb2.Summary.Value(
            tag=tag, histo=_histogram(a, edges, max_bins))], global_step, walltime)

    def add_histogram_raw(self, tag: str, min: Any, max: Any, num: Any, sum: Any, sum_squares: Any,
                          bucket_limits: Sequence[Any], bucket_counts: Sequence[Any],
                          global_step: Any = None, walltime: float | None = None) -> None:
        """A histogram that has been counted."""
        if len(bucket_limits) != len(bucket_counts):
            raise ValueError(f"len(bucket_limits) != len(bucket_counts): {len(bucket_limits)} and "
                             f"{len(bucket_counts)}")
        histo = summary_pb2.HistogramProto(
            min=min, max=max, num=num, sum=sum, sum_squares=sum_squares,
            bucket_limit=list(bucket_limits), bucket=list(bucket_counts))
        self._writer().add_summary([summary_pb2.Summary.Value(tag=tag, histo=histo)], global_step,
                                   walltime)

    def add_image(self, tag: str, img_tensor: Any, global_step: Any = None,
                  walltime: float | None = None, dataformats: str = "CHW") -> None:
        """A picture: uint8, or numbers from 0 to 1; dataformats: CHW, HWC or HW."""
        image = _picture(_array(img_tensor), dataformats)
        self._writer().add_summary([summary_pb2.Summary.Value(tag=tag, image=image)], global_step,
                                   walltime)

    def add_images(self, tag: str, img_tensor: Any, global_step: Any = None,
                   walltime: float | None = None, dataformats: str = "NCHW") -> None:
        """Several pictures in a grid."""
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_figure(self, tag: str, figure: Any, global_step: Any = None, close: bool = True,
                   walltime: float | None = None) -> None:
        """A figure of Matplotlib, or several; close: they are closed afterwards."""
        figures = list(figure) if isinstance(figure, list | tuple) else [figure]
        drawn = []
        for f in figures:
            f.canvas.draw()
            drawn.append(np.asarray(f.canvas.buffer_rgba())[..., :3])
            if close:
                import matplotlib.pyplot as plt

                plt.close(f)
        self.add_image(tag, np.stack(drawn), global_step, walltime, dataformats="NHWC")

    def add_text(self, tag: str, text_string: str, global_step: Any = None,
                 walltime: float | None = None) -> None:
        """A text, in Markdown."""
        value = _whole(tag + "/text_summary", np.array([text_string.encode()], object), "text")
        self._writer().add_summary([value], global_step, walltime)

    def add_pr_curve(self, tag: str, labels: Any, predictions: Any, global_step: Any = None,
                     num_thresholds: int = 127, weights: Any = None,
                     walltime: float | None = None) -> None:
        """Precision and recall for thresholds from 0 to 1 of binary predictions."""
        data = _precision_recall(_array(labels).reshape(-1), _array(predictions).reshape(-1),
                                 min(num_thresholds, 127),
                                 None if weights is None else _array(weights).reshape(-1))
        from tensorboard.plugins.pr_curve.metadata import create_summary_metadata

        value = _whole(tag, data, "")
        value.metadata.CopyFrom(create_summary_metadata(
            display_name=tag, description="", num_thresholds=data.shape[1]))
        self._writer().add_summary([value], global_step, walltime)

    def add_hparams(self, hparam_dict: Mapping[str, Any], metric_dict: Mapping[str, Any],
                    hparam_domain_discrete: Any = None, run_name: str | None = None,
                    global_step: Any = None) -> None:
        """Hyperparameters with the results that they led to, as a run of its own."""
        if not isinstance(hparam_dict, Mapping) or not isinstance(metric_dict, Mapping):
            raise TypeError("hparam_dict and metric_dict should be dictionary.")
        plain = {k: v if isinstance(v, str | bool | int | float) else
                 _number(v) if isinstance(v, Tensor | np.generic) else str(v)
                 for k, v in hparam_dict.items()}
        writer = self._writer(run_name or str(time.time()))
        writer.add_summary(_hparams(plain, list(metric_dict), hparam_domain_discrete or {}), None,
                           None)
        for k, v in metric_dict.items():
            writer.add_summary([_scalar(k, _number(v))], global_step, None)

    def add_graph(self, model: Any, input_to_model: Any = None, verbose: bool = False,
                  use_strict_trace: bool = True) -> None:
        raise NotImplementedError("SummaryWriter.add_graph is not supported: models can't be "
                                  "traced; add_text(tag, repr(model)) shows their parts")

    def add_embedding(self, mat: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("SummaryWriter.add_embedding is not supported")

    def add_audio(self, tag: str, snd_tensor: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("SummaryWriter.add_audio is not supported")

    def add_video(self, tag: str, vid_tensor: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("SummaryWriter.add_video is not supported: add_images shows "
                                  "frames")

    def add_mesh(self, tag: str, vertices: Any, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("SummaryWriter.add_mesh is not supported")

    def flush(self) -> None:
        """Write what waits to the files."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Write what waits, and close the files; a later call opens new ones."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# Values ------------------------------------------------------------------------------------------

def _scalar(tag: str, value: float, as_tensor: bool = False, double: bool = False) -> Any:
    if not as_tensor:
        return summary_pb2.Summary.Value(tag=tag, simple_value=value)
    return _whole(tag, np.asarray(value, np.float64 if double else np.float32), "scalars")


_DTYPES = {"float32": (1, "float_val"), "float64": (2, "double_val"), "int32": (3, "int_val"),
           "uint8": (4, "int_val"), "int64": (9, "int64_val"), "bool": (10, "bool_val"),
           "object": (7, "string_val")}          # numbers of TensorFlow's DataType


def _whole(tag: str, a: np.ndarray[Any, Any], plugin: str) -> Any:
    """An array as a tensor of a summary, for a plugin of TensorBoard."""
    if a.dtype.name not in _DTYPES:
        a = a.astype(np.float64 if a.dtype.kind == "f" else np.int64)
    number, field = _DTYPES[a.dtype.name]
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=n) for n in a.shape])
    proto = TensorProto(dtype=number, tensor_shape=shape, **{field: a.reshape(-1).tolist()})
    value = summary_pb2.Summary.Value(tag=tag, tensor=proto)
    if plugin:
        value.metadata.plugin_data.plugin_name = plugin
    return value


def _growing_edges() -> np.ndarray[Any, Any]:
    """From -1e20 to 1e20, closest around 0: each 1.1 times as far out as the one before."""
    n = int(np.ceil(np.log(1e20 / 1e-12) / np.log(1.1)))
    up = 1e-12 * 1.1 ** np.arange(n)
    return np.concatenate([-up[::-1], [0.0], up])


def _histogram(a: np.ndarray[Any, Any], edges: Any, max_bins: int | None) -> Any:
    if a.size == 0:
        raise ValueError("The input has no element.")
    counts, limits = np.histogram(a, bins=edges)
    if max_bins is not None and len(counts) > max_bins:
        step = len(counts) // max_bins
        counts = np.add.reduceat(counts, np.arange(0, len(counts), step))
        limits = np.append(limits[:-1][::step], limits[-1])
    used = np.nonzero(counts)[0]
    if len(used) == 0:
        raise ValueError("The histogram is empty, please file a bug report: no value is between "
                         "the outermost edges")
    first, last = int(used[0]), int(used[-1])
    # One empty bin before the first, so that its lower edge is known.
    left = [0.0, *counts[first:last + 1].astype(float)]
    return summary_pb2.HistogramProto(
        min=a.min(), max=a.max(), num=len(a), sum=a.sum(), sum_squares=a.dot(a),
        bucket_limit=limits[first:last + 2].tolist(), bucket=left)


def _picture(a: np.ndarray[Any, Any], layout: str) -> Any:
    """A picture as PNG; several become a grid of about 8 in a row."""
    from PIL import Image

    layout = layout.upper()
    if a.ndim != len(layout) or len(set(layout)) != len(layout) or not set(layout) <= set("NCHW"):
        raise AssertionError("size of input tensor and input format are different. tensor shape: "
                             f"{a.shape}, input_format: {layout}")
    wanted = [c for c in "NHWC" if c in layout]
    a = a.transpose([layout.index(c) for c in wanted])
    if "C" not in wanted:
        a = a[..., None]
    if "N" in wanted:
        n, h, w, c = a.shape
        columns = min(n, 8)
        grid = np.zeros((-(-n // columns) * h, columns * w, c), a.dtype)
        for i in range(n):
            y, x = divmod(i, columns)
            grid[y * h:y * h + h, x * w:x * w + w] = a[i]
        a = grid
    if a.shape[-1] == 1:
        a = a.repeat(3, -1)
    if a.dtype != np.uint8:
        a = (a.astype(np.float32) * 255.0).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(a)).save(out, format="PNG")
    return summary_pb2.Summary.Image(height=a.shape[0], width=a.shape[1], colorspace=a.shape[2],
                                     encoded_image_string=out.getvalue())


def _precision_recall(labels: np.ndarray[Any, Any], predictions: np.ndarray[Any, Any], n: int,
                      weights: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    """Rows of true and false positives, true and false negatives, precision and recall at n
    thresholds."""
    w = np.ones(len(labels)) if weights is None else weights
    buckets = np.minimum(np.floor(predictions * (n - 1)).astype(int), n - 1)
    true = labels.astype(float) * w
    tp, _ = np.histogram(buckets, bins=n, range=(0, n - 1), weights=true)
    fp, _ = np.histogram(buckets, bins=n, range=(0, n - 1), weights=w - true)
    tp, fp = tp[::-1].cumsum()[::-1], fp[::-1].cumsum()[::-1]
    tn, fn = fp[0] - fp, tp[0] - tp
    least = 1e-7
    return np.stack([tp, fp, tn, fn, tp / np.maximum(least, tp + fp),
                     tp / np.maximum(least, tp + fn)])


def _hparams(values: dict[str, Any], metrics: list[str], domains: Mapping[str, Any]) -> list[Any]:
    """What the plugin for hyperparameters reads: their names and kinds, and those of one run."""
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    kinds = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}
    infos = [api_pb2.HParamInfo(name=k, type=kinds.get(type(v), api_pb2.DATA_TYPE_FLOAT64))
             for k, v in values.items()]
    for info in infos:
        for v in domains.get(info.name, ()):
            _set(info.domain_discrete.values.add(), v)
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=[
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics])
    start = plugin_data_pb2.SessionStartInfo()
    for k, v in values.items():
        _set(start.hparams[k], v)
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    out = []
    for tag, part in ((metadata.EXPERIMENT_TAG, {"experiment": experiment}),
                      (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
                      (metadata.SESSION_END_INFO_TAG, {"session_end_info": end})):
        content = plugin_data_pb2.HParamsPluginData(
            version=metadata.PLUGIN_DATA_VERSION, **part).SerializeToString()
        plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME,
                                                        content=content)
        out.append(summary_pb2.Summary.Value(
            tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin)))
    return out


def _set(value: Any, v: Any) -> None:
    """Put a number, a bool or a text into a Value of protobuf."""
    if isinstance(v, bool):
        value.bool_value = v
    elif isinstance(v, str):
        value.string_value = v
    else:
        value.number_value = v
