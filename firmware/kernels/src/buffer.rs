//! Memory that begins on a cache line: a vector load that straddles two lines costs twice.

/// One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes from a line's start on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    /// `bytes` of `fill`, rounded up to whole lines.
    pub(crate) fn filled(bytes: usize, fill: u8) -> Self {
        Self { lines: vec![Line([fill; 64]); bytes.div_ceil(64)] }
    }

    pub(crate) fn floats(count: usize) -> Self {
        Self::filled(count * 4, 0)
    }

    pub(crate) fn of_floats(values: &[f32]) -> Self {
        let mut buffer = Self::floats(values.len());
        buffer.as_floats_mut()[..values.len()].copy_from_slice(values);
        buffer
    }

    pub(crate) fn of_ints(values: &[i32]) -> Self {
        let mut buffer = Self::filled(values.len() * 4, 0);
        for (line, values) in buffer.lines.iter_mut().zip(values.chunks(16)) {
            for (place, value) in line.0.chunks_exact_mut(4).zip(values) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
        buffer
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len() * 64
    }

    pub(crate) fn pointer(&self) -> *const u8 {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn pointer_mut(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    #[allow(unsafe_code)]
    pub(crate) fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: lines are plain bytes without padding (size 64, alignment 64), borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut(), self.len()) }
    }

    #[allow(unsafe_code)]
    pub(crate) fn as_floats(&self) -> &[f32] {
        // SAFETY: as above; 64 is a multiple of f32's size and alignment, and every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(self.pointer().cast(), self.len() / 4) }
    }

    #[allow(unsafe_code)]
    pub(crate) fn as_floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut().cast(), self.len() / 4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_on_a_line_and_holds_what_was_put_in() {
        let buffer = Buffer::of_floats(&[1.0, 2.0, 3.0]);
        assert_eq!(buffer.pointer() as usize % 64, 0);
        assert_eq!(buffer.as_floats()[..4], [1.0, 2.0, 3.0, 0.0]);
        let mut ints = Buffer::of_ints(&[-2; 17]);
        assert_eq!(ints.as_bytes_mut()[64..72], [254, 255, 255, 255, 0, 0, 0, 0]);
    }
}
