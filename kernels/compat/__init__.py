"""The functions that mamba-ssm and causal-conv1d publish, on the ops of this package.

Names, arguments, layouts, dtypes and results are theirs; what runs underneath is ours, on a GPU
without a compiler and on a CPU. ``install()`` puts them where those packages would be imported
from. README.md lists what differs.
"""

from audiomamba.kernels.compat.causal_conv1d import (
    causal_conv1d_fn,
    causal_conv1d_ref,
    causal_conv1d_update,
    causal_conv1d_update_ref,
)
from audiomamba.kernels.compat.causal_conv1d_varlen import (
    causal_conv1d_varlen_states,
    causal_conv1d_varlen_states_ref,
)
from audiomamba.kernels.compat.installation import install
from audiomamba.kernels.compat.layernorm_gated import layernorm_fn, rms_norm_ref, rmsnorm_fn
from audiomamba.kernels.compat.mamba_inner import mamba_inner_fn, mamba_inner_ref
from audiomamba.kernels.compat.selective_scan import selective_scan_fn, selective_scan_ref
from audiomamba.kernels.compat.selective_state_update import (
    selective_state_update,
    selective_state_update_ref,
)
from audiomamba.kernels.compat.ssd_combined import (
    mamba_chunk_scan_combined,
    mamba_chunk_scan_combined_ref,
)

__all__ = [
    "causal_conv1d_fn",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_ref",
    "causal_conv1d_varlen_states",
    "causal_conv1d_varlen_states_ref",
    "install",
    "layernorm_fn",
    "mamba_chunk_scan_combined",
    "mamba_chunk_scan_combined_ref",
    "mamba_inner_fn",
    "mamba_inner_ref",
    "rms_norm_ref",
    "rmsnorm_fn",
    "selective_scan_fn",
    "selective_scan_ref",
    "selective_state_update",
    "selective_state_update_ref",
]
