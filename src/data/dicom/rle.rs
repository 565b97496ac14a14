//! RLE Lossless (PS3.5 annex G): byte planes, each packed as in PackBits.

use super::dataset::Parsed;

/// Unpacks `planes` byte planes of `area` bytes each, the most significant of each sample first, into little-endian
/// samples of `width` bytes with their channels side by side.
pub fn decode(data: &[u8], area: usize, channels: usize, width: usize) -> Parsed<Vec<u8>> {
    let planes = channels * width;
    let words: Vec<usize> =
        data.as_chunks::<4>().0.iter().take(16).map(|&word| u32::from_le_bytes(word) as usize).collect();
    if words.len() < 16 || words[0] != planes || planes > 15 {
        return Err(format!("its RLE header names {} segments for {planes}", words.first().unwrap_or(&0)));
    }
    // Each plane is unpacked in one piece and then spread: storing byte for byte into the samples is far slower.
    let mut out = vec![0; area * planes];
    let mut bytes = vec![0; area];
    for plane in 0..planes {
        let start = words[plane + 1];
        let end = if plane + 1 < planes { words[plane + 2] } else { data.len() };
        let segment = data.get(start..end).ok_or("its RLE segments lie outside the data")?;
        if unpack(segment, &mut bytes) < area {
            return Err("an RLE segment is too short".into());
        }
        let (channel, byte) = (plane / width, width - 1 - plane % width);
        spread(&bytes, &mut out, channel * width + byte, planes);
    }
    Ok(out)
}

/// Puts `bytes` at place `offset` of each `stride` bytes of `out`.
fn spread(bytes: &[u8], out: &mut [u8], offset: usize, stride: usize) {
    fn by<const N: usize>(bytes: &[u8], out: &mut [u8], offset: usize) {
        out.as_chunks_mut::<N>().0.iter_mut().zip(bytes).for_each(|(sample, &byte)| sample[offset] = byte);
    }
    match stride {
        1 => out.copy_from_slice(bytes),
        2 => by::<2>(bytes, out, offset),
        3 => by::<3>(bytes, out, offset),
        _ => out[offset..].iter_mut().step_by(stride).zip(bytes).for_each(|(place, &byte)| *place = byte),
    }
}

/// Unpacks to `out`, as far as both reach, and returns the number of bytes written.
fn unpack(mut packed: &[u8], out: &mut [u8]) -> usize {
    let mut at = 0;
    while let [head, rest @ ..] = packed
        && at < out.len()
    {
        let (head, room) = (usize::from(*head), out.len() - at);
        packed = match head {
            0..128 => {
                let run = (head + 1).min(rest.len());
                let kept = run.min(room);
                out[at..at + kept].copy_from_slice(&rest[..kept]);
                at += kept;
                &rest[run..]
            }
            // A no-op.
            128 => rest,
            _ => match rest {
                [byte, rest @ ..] => {
                    let run = (257 - head).min(room);
                    out[at..at + run].fill(*byte);
                    at += run;
                    rest
                }
                [] => rest,
            },
        };
    }
    at
}
