//! Framing on a stream: a `u32` length in network byte order, then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest body, in bytes. A policy of 10 MB must fit to be refused for its own reasons.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Bytes of the length in front of a body.
pub const HEADER_BYTES: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a message of {bytes} bytes is over the bound of {BODY_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("the message is not one this version knows; are both sides of the same version?")]
    Malformed(#[from] serde_json::Error),
}

/// One whole frame, header included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let bytes = frame.len() - HEADER_BYTES;
    if bytes > BODY_BYTES_MAX {
        return Err(FrameError::TooLong { bytes });
    }
    frame[..HEADER_BYTES].copy_from_slice(&(bytes as u32).to_be_bytes());
    Ok(frame)
}

/// The length of the body that follows a header.
pub fn body_length(header: [u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let bytes = u32::from_be_bytes(header) as usize;
    if bytes > BODY_BYTES_MAX { Err(FrameError::TooLong { bytes }) } else { Ok(bytes) }
}

/// Reads the body of a frame.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    #[test]
    fn a_request_survives_the_wire() {
        let request = Request::Block {
            source: "203.0.113.9/32".parse().unwrap(),
            duration: Some(std::time::Duration::from_secs(3600)),
            note: "by hand".into(),
            force: false,
        };
        let frame = encode(&request).unwrap();
        let header = frame[..HEADER_BYTES].try_into().unwrap();
        assert_eq!(body_length(header).unwrap(), frame.len() - HEADER_BYTES);
        assert_eq!(decode::<Request>(&frame[HEADER_BYTES..]).unwrap(), request);
    }

    #[test]
    fn an_oversized_length_is_refused_before_anything_is_read() {
        let header = u32::try_from(BODY_BYTES_MAX + 1).unwrap().to_be_bytes();
        assert!(matches!(body_length(header), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn an_unknown_request_is_malformed() {
        assert!(matches!(decode::<Request>(br#"{"request":"open-sesame"}"#), Err(FrameError::Malformed(_))));
    }
}
