//! From the command line.
