//! Writes the code of the messages.

fn main() -> std::io::Result<()> {
    std::fs::write(wire::committed(), wire::generate())
}
