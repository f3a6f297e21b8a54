"""torch.utils.data._utils.collate: collation, and the table that programs add their types to."""
from __future__ import annotations

from gpugrad.utils.data.collate import collate as collate
from gpugrad.utils.data.collate import default_collate as default_collate
from gpugrad.utils.data.collate import (
    default_collate_err_msg_format as default_collate_err_msg_format,
)
from gpugrad.utils.data.collate import default_collate_fn_map as default_collate_fn_map
from gpugrad.utils.data.collate import default_convert as default_convert
