//! getopt
