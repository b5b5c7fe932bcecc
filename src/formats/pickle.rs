//! Pickles, read opcode by opcode and never executed.
