//! The media worker: audio extraction and probing with libav
