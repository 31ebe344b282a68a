//! The ends of a connection in memory.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

/// The server's ends of two pipes.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) input: VecDeque<u8>,
    pub(crate) output: Vec<u8>,
}

impl Read for Ends {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.is_empty() {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.input.read(buffer),
        }
    }
}

impl Write for Ends {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
