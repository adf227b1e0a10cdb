//! The `stenograph` program. Everything it does is in the library, so that tests run the same code.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stenograph::app::cli::main()
}
