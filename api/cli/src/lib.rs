//! fourmi, the command line
