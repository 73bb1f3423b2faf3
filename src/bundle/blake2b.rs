//! BLAKE2b without key (RFC 7693): minisign signs this hash of a file, and nothing else here uses it,
//! which is why it is ninety lines of ours and not a dependency.

/// The first 64 bits of the fractions of the square roots of the first eight primes, as SHA-512's.
const START: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Which words of the message a round takes, in order; rounds 10 and 11 are 0 and 1 again.
const ORDER: [[u8; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Words mixed with each other: first the columns of a 4 by 4 square, then its diagonals.
const QUARTERS: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [1, 5, 9, 13],
    [2, 6, 10, 14],
    [3, 7, 11, 15],
    [0, 5, 10, 15],
    [1, 6, 11, 12],
    [2, 7, 8, 13],
    [3, 4, 9, 14],
];

const BLOCK: usize = 128;

/// A hash as it grows.
#[derive(Clone)]
pub struct Blake2b<const N: usize> {
    state: [u64; 8],
    block: [u8; BLOCK],
    /// Bytes in `block`.
    held: usize,
    /// Bytes hashed before those.
    hashed: u128,
}

impl<const N: usize> Blake2b<N> {
    /// Of nothing yet; `N` is 1 to 64.
    pub fn new() -> Self {
        const { assert!(N >= 1 && N <= 64) };
        let mut state = START;
        state[0] ^= 0x0101_0000 ^ N as u64;
        Blake2b {
            state,
            block: [0; BLOCK],
            held: 0,
            hashed: 0,
        }
    }

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> [u8; N] {
        let mut hash = Self::new();
        hash.update(bytes);
        hash.finish()
    }

    /// More bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            // The last block is marked as such: a full one waits until more comes.
            if self.held == BLOCK {
                self.hashed += BLOCK as u128;
                self.compress(false);
                self.held = 0;
            }
            let n = bytes.len().min(BLOCK - self.held);
            self.block[self.held..self.held + n].copy_from_slice(&bytes[..n]);
            self.held += n;
            bytes = &bytes[n..];
        }
    }

    /// The hash.
    pub fn finish(mut self) -> [u8; N] {
        self.hashed += self.held as u128;
        self.block[self.held..].fill(0);
        self.compress(true);
        let mut out = [0; N];
        let bytes = self.state.iter().flat_map(|word| word.to_le_bytes());
        out.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        out
    }

    fn compress(&mut self, last: bool) {
        let mut message = [0u64; 16];
        for (word, bytes) in message.iter_mut().zip(self.block.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(bytes);
            *word = u64::from_le_bytes(eight);
        }
        let mut v = [0u64; 16];
        v[..8].copy_from_slice(&self.state);
        v[8..].copy_from_slice(&START);
        v[12] ^= self.hashed as u64;
        v[13] ^= (self.hashed >> 64) as u64;
        if last {
            v[14] = !v[14];
        }
        for round in 0..12 {
            let order = &ORDER[round % 10];
            for (quarter, pair) in QUARTERS.iter().zip(order.chunks_exact(2)) {
                let [a, b, c, d] = *quarter;
                let (x, y) = (message[usize::from(pair[0])], message[usize::from(pair[1])]);
                v[a] = v[a].wrapping_add(v[b]).wrapping_add(x);
                v[d] = (v[d] ^ v[a]).rotate_right(32);
                v[c] = v[c].wrapping_add(v[d]);
                v[b] = (v[b] ^ v[c]).rotate_right(24);
                v[a] = v[a].wrapping_add(v[b]).wrapping_add(y);
                v[d] = (v[d] ^ v[a]).rotate_right(16);
                v[c] = v[c].wrapping_add(v[d]);
                v[b] = (v[b] ^ v[c]).rotate_right(63);
            }
        }
        for (i, word) in self.state.iter_mut().enumerate() {
            *word ^= v[i] ^ v[i + 8];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::{self, Command};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// RFC 7693, appendix A.
    #[test]
    fn the_standards_example() {
        let hash = hex(&Blake2b::<64>::of(b"abc"));
        assert!(hash.starts_with("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b7"));
    }

    #[test]
    fn it_agrees_with_b2sum_whatever_the_pieces() {
        if command::find("b2sum").is_none() {
            return;
        }
        for n in [0usize, 1, 127, 128, 129, 256, 1000, 70_000] {
            let bytes: Vec<u8> = (0..n).map(|i| (i * 7 + i / 256) as u8).collect();
            let theirs = |bits: &str| {
                let tool = Command::new("b2sum")
                    .args(["-l", bits])
                    .stdin(bytes.clone());
                tool.run().unwrap().output
            };
            let mut pieces = Blake2b::<64>::new();
            bytes.chunks(77).for_each(|piece| pieces.update(piece));
            assert_eq!(theirs("512"), format!("{}  -\n", hex(&pieces.finish())));
            let short = hex(&Blake2b::<32>::of(&bytes));
            assert_eq!(theirs("256"), format!("{short}  -\n"));
        }
    }
}
