//! The HTTP facade of Fourmi
