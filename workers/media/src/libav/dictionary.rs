//! Tags, as containers carry them.

#![expect(unsafe_code, reason = "reads libav's dictionaries, whose text need not be UTF-8")]

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char},
    ptr,
};

use ffmpeg_next::{Dictionary, ffi};

/// As many tags as are read of one dictionary.
const MAX_TAGS: usize = 128;

/// Longer values are cut.
const MAX_VALUE_CHARS: usize = 4_096;

/// Tags by lower-case name. Bounded: at most 128, each of at most 4,096 characters.
pub(crate) type Tags = BTreeMap<String, String>;

/// Reads a dictionary that belongs to a context.
///
/// # Safety
/// `dictionary` is null or a live dictionary that nobody changes meanwhile.
pub(super) unsafe fn read(dictionary: *const ffi::AVDictionary) -> Tags {
    let mut tags = Tags::new();
    let mut entry = ptr::null_mut();
    while tags.len() < MAX_TAGS {
        // SAFETY: by the contract of this function; `entry` is null or the previous entry of the same dictionary.
        entry = unsafe { ffi::av_dict_get(dictionary, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX) };
        if entry.is_null() {
            break;
        }
        // SAFETY: a live entry holds two strings that end with NUL.
        let (name, value) = unsafe { (text((*entry).key), text((*entry).value)) };
        if !name.is_empty() && !value.trim().is_empty() {
            tags.entry(name.to_lowercase()).or_insert_with(|| value.chars().take(MAX_VALUE_CHARS).collect());
        }
    }
    tags
}

/// Text of foreign origin: UTF-8, or else Latin-1, in which old files were written.
///
/// # Safety
/// `text` is null or ends with NUL.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the contract of this function.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// A dictionary of libav's with these entries.
pub(super) fn write<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Dictionary<'static> {
    let mut dictionary = Dictionary::new();
    for (name, value) in entries {
        // NUL ends a string in C.
        if !name.contains('\0') && !value.contains('\0') {
            dictionary.set(name, value);
        }
    }
    dictionary
}
