// The picture: levels through a window, the heat-map over it, zoom and place.

const LEVELS = 1 << 16;
const MOST_ZOOM = 12;
const TURN = 100; // of the wheel for a slice, in CSS pixels

export class Picture {
  constructor(canvas, onChange) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.layer = document.createElement("canvas");
    this.onChange = onChange;
    this.table = new Uint32Array(LEVELS);
    this.heat = null;
    this.clear();
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  clear() {
    this.image = null;
    this.heat = null;
    this.inverted = false;
    this.place();
    this.paint();
  }

  /** Shows an image; `keep` leaves window, zoom and place as they are. */
  show(image, keep) {
    this.image = image;
    this.heat = null;
    this.layer.width = image.width;
    this.layer.height = image.height;
    this.pixels = new ImageData(image.width, image.height);
    if (!keep) {
      this.inverted = false;
      this.place();
      this.reset();
    }
    this.render();
  }

  /** The whole picture, in the middle. */
  place() {
    this.zoom = 1;
    this.shift = [0, 0];
  }

  /** The window by which the image is shown at first. */
  reset() {
    if (!this.image) return;
    this.centre = (this.image.low + this.image.high) / 2;
    this.width = Math.max(this.image.high - this.image.low, Math.abs(this.image.slope));
    this.render();
  }

  window(centre, width) {
    if (!this.image) return;
    this.width = Math.max(width, Math.abs(this.image.slope));
    this.centre = centre;
    this.render();
  }

  /** Moves centre and width by shares of the width. */
  moveWindow(ofCentre, ofWidth) {
    if (!this.image) return;
    this.window(this.centre + ofCentre * this.width, this.width * Math.exp(ofWidth));
  }

  invert() {
    this.inverted = !this.inverted;
    this.render();
  }

  /** Zooms by a factor around a point of the canvas, or its middle. */
  zoomBy(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor));
    const real = zoom / this.zoom;
    const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    [x, y].forEach((at, k) => {
      this.shift[k] = zoom === 1 ? 0 : (at - middle[k]) * (1 - real) + this.shift[k] * real;
    });
    this.zoom = zoom;
    this.paint();
  }

  move(dx, dy) {
    if (this.zoom === 1) return;
    this.shift[0] += dx;
    this.shift[1] += dy;
    this.paint();
  }

  setHeat(bitmap) {
    this.heat = bitmap;
    this.paint();
  }

  /** Value and pixel under a point of the canvas, or null beside the picture. */
  valueAt(x, y) {
    if (!this.image) return null;
    const [left, top, wide, high] = this.rectangle();
    const column = Math.floor(((x - left) / wide) * this.image.width);
    const row = Math.floor(((y - top) / high) * this.image.height);
    if (column < 0 || row < 0 || column >= this.image.width || row >= this.image.height) return null;
    const level = this.image.levels[row * this.image.width + column];
    const scale = this.image.original[1] / this.image.width;
    const value = level * this.image.slope + this.image.intercept;
    return { value, column: Math.round(column * scale), row: Math.round(row * scale) };
  }

  /** Levels to pixels by the window, at the next frame of the screen. */
  render() {
    this.stale = true;
    this.paint();
  }

  paint() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      if (this.stale && this.image) this.develop();
      this.stale = false;
      this.draw();
      this.onChange(this);
    });
  }

  develop() {
    const { levels, slope, intercept, inverted } = this.image;
    const low = this.centre - this.width / 2;
    const turned = inverted !== this.inverted;
    for (let level = 0; level < LEVELS; level++) {
      const unit = Math.min(1, Math.max(0, (level * slope + intercept - low) / this.width));
      const gray = Math.round((turned ? 1 - unit : unit) * 255);
      this.table[level] = 0xff000000 | (gray << 16) | (gray << 8) | gray;
    }
    const out = new Uint32Array(this.pixels.data.buffer);
    for (let i = 0; i < levels.length; i++) out[i] = this.table[levels[i]];
    this.layer.getContext("2d").putImageData(this.pixels, 0, 0);
  }

  /** Left, top, width and height of the picture on the canvas, in CSS pixels. */
  rectangle() {
    const [wide, high] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const scale = Math.min(wide / this.image.width, high / this.image.height) * this.zoom;
    const size = [this.image.width * scale, this.image.height * scale];
    return [(wide - size[0]) / 2 + this.shift[0], (high - size[1]) / 2 + this.shift[1], ...size];
  }

  draw() {
    const { canvas, context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    const ratio = window.devicePixelRatio || 1;
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = this.zoom < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.layer, ...this.rectangle());
    context.imageSmoothingEnabled = true;
    if (this.heat) context.drawImage(this.heat, ...this.rectangle());
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    this.draw();
  }
}

/** Mouse and wheel over the picture. `scrolls()` says whether the wheel goes through slices, `step(n)` does so. */
export function steer(picture, scrolls, step, hover) {
  const { canvas } = picture;
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    hover(picture.valueAt(event.offsetX, event.offsetY));
    if (!from) return;
    const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
    from = [event.clientX, event.clientY];
    if (event.altKey || event.buttons === 4) picture.move(dx, dy);
    else picture.moveWindow(-dy / 400, dx / 250);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (from = null));
  canvas.addEventListener("pointerleave", () => hover(null));
  let turned = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const way = Math.sign(event.deltaY || event.deltaX);
    if (event.ctrlKey || event.metaKey) picture.zoomBy(way < 0 ? 1.2 : 1 / 1.2, event.offsetX, event.offsetY);
    else if (scrolls() && !event.shiftKey) {
      // A wheel turns by about a hundred at a time, a touchpad often and little.
      turned += event.deltaMode ? way * TURN : event.deltaY;
      const steps = Math.trunc(turned / TURN);
      if (steps) step(steps);
      turned -= steps * TURN;
    } else if (scrolls() || !event.shiftKey) picture.moveWindow(0, way * 0.08);
    else picture.moveWindow(way * 0.04, 0);
  }, { passive: false });
}
