//! The first bytes that a target sends: they show which protocol it speaks.
//!
//! A server of HTTP/2 begins with a frame of SETTINGS, whatever it received: grpc-go, tonic, gRPC in
//! C++ and Python, Netty and nghttp2 send it before or instead of looking at the request, and close
//! the connection of a client of HTTP/1.
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::Stream;

/// Length of the header of a frame.
const FRAME: usize = 9;
/// Types of frames with which a server of HTTP/2 begins: GOAWAY, if it refuses at once.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Maximum size of a frame before any settings.
const LARGEST: u32 = 16_384;

/// The first bytes that a target sent on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct First {
    bytes: [u8; FRAME],
    len: usize,
}

impl First {
    fn take(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.len..];
        let taken = room.len().min(bytes.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
    }

    /// Whether nothing came.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all of these bytes came.
    pub(crate) const fn is_full(&self) -> bool {
        self.len == FRAME
    }

    /// Whether it is the header of a frame with which HTTP/2 begins.
    pub(crate) fn is_http2(&self) -> bool {
        let [a, b, c, kind, flags, stream @ ..] = self.bytes;
        let length = u32::from_be_bytes([0, a, b, c]);
        let fits = match kind {
            // Of six bytes for each setting, and not the acknowledgement of ours.
            SETTINGS => flags & 1 == 0 && length.is_multiple_of(6),
            GOAWAY => length >= 8,
            _ => false,
        };
        self.is_full() && fits && length <= LARGEST && u32::from_be_bytes(stream) << 1 == 0
    }
}

/// A stream whose first bytes are noted, and of which only so many can be read.
pub(crate) struct Noted<'a> {
    stream: &'a mut dyn Stream,
    first: &'a mut First,
    left: usize,
}

impl<'a> Noted<'a> {
    /// Notes the first bytes of `stream` in `first`. Reading more than `most` bytes fails.
    pub(crate) const fn new(stream: &'a mut dyn Stream, first: &'a mut First, most: usize) -> Self {
        Self { stream, first, left: most }
    }
}

impl AsyncRead for Noted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.stream).poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        self.first.take(bytes);
        match self.left.checked_sub(bytes.len()) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into())),
        }
        read
    }
}

impl AsyncWrite for Noted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(pieces: &[&[u8]]) -> First {
        let mut first = First::default();
        for piece in pieces {
            first.take(piece);
        }
        first
    }

    #[test]
    fn a_frame_of_settings_or_goaway_is_http2() {
        for bytes in [
            &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
            &[0, 0, 24, 4, 0, 0, 0, 0, 0, 0, 4, 0, 64],
            &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 6, 4, 0, 0x80, 0, 0, 0],
        ] {
            assert!(first(&[bytes]).is_http2(), "{bytes:?}");
            assert!(first(&[&bytes[..4], &bytes[4..]]).is_http2(), "{bytes:?}");
            assert!(!first(&[&bytes[..8]]).is_http2(), "cut: {bytes:?}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"-ERR unknown command\r\n",
            b"",
            &[0; 16],
            &[0, 0, 5, 4, 0, 0, 0, 0, 0],
            &[0, 0, 0, 4, 1, 0, 0, 0, 0],
            &[0, 0, 0, 4, 0, 0, 0, 0, 1],
            &[0, 0, 4, 7, 0, 0, 0, 0, 0],
            &[1, 0, 2, 4, 0, 0, 0, 0, 0],
            &[0, 0, 8, 6, 0, 0, 0, 0, 0],
        ] {
            assert!(!first(&[bytes]).is_http2(), "{bytes:?}");
        }
        assert!(first(&[]).is_empty() && !first(&[b"x"]).is_empty());
    }
}
