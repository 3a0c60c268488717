//! How libav is told to stop while it blocks.

#![expect(unsafe_code, reason = "a callback from C")]

use std::{
    ffi::{c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
};

use ffmpeg_next::ffi;

use crate::Control;

/// What a context asks whether to go on. It has a fixed place in memory, and must be dropped after the context.
pub(super) struct Interrupt<'c>(Box<Asked<'c>>);

struct Asked<'c> {
    control: &'c dyn Control,
}

impl<'c> Interrupt<'c> {
    pub(super) fn new(control: &'c dyn Control) -> Self {
        Self(Box::new(Asked { control }))
    }

    /// What to give to a context.
    pub(super) fn callback(&self) -> ffi::AVIOInterruptCB {
        ffi::AVIOInterruptCB { callback: Some(interrupted), opaque: ptr::from_ref(&*self.0).cast_mut().cast() }
    }
}

unsafe extern "C" fn interrupted(asked: *mut c_void) -> c_int {
    // SAFETY: it comes from `callback`, and its owner outlives the context that calls this.
    let asked = unsafe { &*asked.cast::<Asked<'_>>() };
    // A panic must not cross into C; who cannot say whether to go on stops.
    c_int::from(catch_unwind(AssertUnwindSafe(|| asked.control.cancelled())).unwrap_or(true))
}
