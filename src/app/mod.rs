//! The program: configuration, commands, admin endpoint, demo.
