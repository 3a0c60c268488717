//! Typed HTTP client of Fourmi
