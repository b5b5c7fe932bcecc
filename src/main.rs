//! The `modelfs` command.

fn main() {}
