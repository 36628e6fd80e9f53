//! Where the fields of CUPTI's activity records are, in bytes from the start of a record.
//!
//! Written by `scripts/cupti-records.py` from NVIDIA's headers of CUPTI 11.8 to 13.4, which agree on all of
//! these: do not edit.

/// `CUpti_ActivityKernel`.
pub(crate) mod kernel {
    pub(crate) const REGISTERS_PER_THREAD: usize = 6;
    pub(crate) const START: usize = 16;
    pub(crate) const END: usize = 24;
    pub(crate) const DEVICE_ID: usize = 40;
    pub(crate) const CONTEXT_ID: usize = 44;
    pub(crate) const STREAM_ID: usize = 48;
    pub(crate) const GRID_X: usize = 52;
    pub(crate) const GRID_Y: usize = 56;
    pub(crate) const GRID_Z: usize = 60;
    pub(crate) const BLOCK_X: usize = 64;
    pub(crate) const BLOCK_Y: usize = 68;
    pub(crate) const BLOCK_Z: usize = 72;
    pub(crate) const STATIC_SHARED_MEMORY: usize = 76;
    pub(crate) const DYNAMIC_SHARED_MEMORY: usize = 80;
    pub(crate) const CORRELATION_ID: usize = 92;
    pub(crate) const NAME: usize = 104;
    pub(crate) const GRAPH_ID: usize = 156;
    /// Bytes up to the end of the last of them.
    pub(crate) const LENGTH: usize = 160;
}

/// `CUpti_ActivityMemcpy`.
pub(crate) mod memcpy {
    pub(crate) const COPY_KIND: usize = 4;
    pub(crate) const SRC_KIND: usize = 5;
    pub(crate) const DST_KIND: usize = 6;
    pub(crate) const BYTES: usize = 8;
    pub(crate) const START: usize = 16;
    pub(crate) const END: usize = 24;
    pub(crate) const DEVICE_ID: usize = 32;
    pub(crate) const CONTEXT_ID: usize = 36;
    pub(crate) const STREAM_ID: usize = 40;
    pub(crate) const CORRELATION_ID: usize = 44;
    pub(crate) const GRAPH_ID: usize = 72;
    /// Bytes up to the end of the last of them.
    pub(crate) const LENGTH: usize = 76;
}

/// `CUpti_ActivityMemset`.
pub(crate) mod memset {
    pub(crate) const BYTES: usize = 8;
    pub(crate) const START: usize = 16;
    pub(crate) const END: usize = 24;
    pub(crate) const DEVICE_ID: usize = 32;
    pub(crate) const CONTEXT_ID: usize = 36;
    pub(crate) const STREAM_ID: usize = 40;
    pub(crate) const CORRELATION_ID: usize = 44;
    pub(crate) const GRAPH_ID: usize = 72;
    /// Bytes up to the end of the last of them.
    pub(crate) const LENGTH: usize = 76;
}

/// `CUpti_ActivityAPI`.
pub(crate) mod api {
    pub(crate) const CBID: usize = 4;
    pub(crate) const START: usize = 8;
    pub(crate) const END: usize = 16;
    pub(crate) const THREAD_ID: usize = 28;
    pub(crate) const CORRELATION_ID: usize = 32;
    /// Bytes up to the end of the last of them.
    pub(crate) const LENGTH: usize = 36;
}

/// `CUpti_ActivityStream`.
pub(crate) mod stream {
    pub(crate) const CONTEXT_ID: usize = 4;
    pub(crate) const STREAM_ID: usize = 8;
    pub(crate) const FLAG: usize = 16;
    /// Bytes up to the end of the last of them.
    pub(crate) const LENGTH: usize = 20;
}

/// `CUpti_ActivityGraphTrace`.
pub(crate) mod graph_trace {
    pub(crate) const CORRELATION_ID: usize = 4;
    pub(crate) const START: usize = 8;
    pub(crate) const END: usize = 16;
    pub(crate) const DEVICE_ID: usize = 24;
    pub(crate) const GRAPH_ID: usize = 28;
    pub(crate) const CONTEXT_ID: usize = 32;
    pub(crate) const STREAM_ID: usize = 36;
    /// Bytes up to the end of the last of them.
    pub(crate) const LENGTH: usize = 40;
}
