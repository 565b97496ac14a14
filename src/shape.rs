//! Small rules about shapes. A wrong shape is a mistake of the program, so these panic, naming the operation.

/// The four extents of an NHWC tensor.
#[track_caller]
pub fn nhwc(shape: &[usize], op: &str) -> [usize; 4] {
    shape.try_into().unwrap_or_else(|_| panic!("{op}: wants a tensor of shape [n, h, w, c], got {shape:?}"))
}

/// Kernel, stride and padding of a window that slides over an image, each as (vertical, horizontal).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Extent of the window.
    pub kernel: (usize, usize),
    /// Step between windows.
    pub stride: (usize, usize),
    /// Rows and columns of padding on each side.
    pub pad: (usize, usize),
}

impl Window {
    /// A square window with the same stride and padding both ways.
    pub fn square(kernel: usize, stride: usize, pad: usize) -> Window {
        Window { kernel: (kernel, kernel), stride: (stride, stride), pad: (pad, pad) }
    }

    /// Number of window positions over an image of `h` × `w`: ⌊(size + 2·pad − kernel) / stride⌋ + 1 each way.
    #[track_caller]
    pub fn positions(&self, h: usize, w: usize, op: &str) -> (usize, usize) {
        let along = |size: usize, kernel: usize, stride: usize, pad: usize| {
            assert!(kernel > 0 && stride > 0, "{op}: {self:?} has no extent");
            let room = (size + 2 * pad).checked_sub(kernel);
            room.unwrap_or_else(|| panic!("{op}: {self:?} does not fit an image of {h}x{w}")) / stride + 1
        };
        (along(h, self.kernel.0, self.stride.0, self.pad.0), along(w, self.kernel.1, self.stride.1, self.pad.1))
    }
}

/// `x` as a kernel parameter.
#[track_caller]
pub fn int(x: usize) -> i32 {
    x.try_into().unwrap_or_else(|_| panic!("an extent of {x} is too large for a kernel"))
}
