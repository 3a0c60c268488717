//! Where jobs wait and how they move: a Redis backend for apalis
