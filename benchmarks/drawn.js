// Runs before a page's own scripts, in its frames too. Notes each frame that WebGL draws and each picture that is shown, whatever
// draws it, and whether it is fresh: whether a canvas has another number of elements (indices, points, instances) in it than
// before. Notes when a hand last touched something, and counts the bytes that web sockets bring.
(() => {
  const clock = () => performance.timeOrigin + performance.now();
  const drawn = (window.drawn = window.top.drawn ?? { clock, frames: [], touched: 0, bytes: 0, fence: true, contexts: new Set() });
  const note = (fresh) => drawn.frames.push({ time: clock(), fresh });

  // --- WebGL: all draw calls of one task are a frame. Software draws late: reading one pixel waits until it has.
  const last = new WeakMap();
  let open = null;
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    const canvases = [...open];
    open = null;
    if (drawn.fence) canvases.forEach(([gl]) => finish(gl));
    const fresh = canvases.filter(([gl, elements]) => last.get(gl) !== elements);
    fresh.forEach(([gl, elements]) => last.set(gl, elements));
    note(fresh.length > 0);
  };
  function finish(gl) {
    const bound = gl.getParameter(gl.FRAMEBUFFER_BINDING);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    gl.bindFramebuffer(gl.FRAMEBUFFER, bound);
  }
  // What is drawn aside, to find what lies under the mouse, is not seen; nor what is cleared away in the same task.
  const aside = (gl) => gl.getParameter(gl.FRAMEBUFFER_BINDING) !== null;
  function add(gl, elements) {
    if (aside(gl)) return;
    if (!open) {
      open = new Map();
      channel.port2.postMessage(null);
    }
    open.set(gl, (open.get(gl) ?? 0) + elements);
  }
  const counts = {
    drawArrays: (mode, first, count) => count,
    drawElements: (mode, count) => count,
    drawRangeElements: (mode, start, end, count) => count,
    drawArraysInstanced: (mode, first, count, instances) => count * instances,
    drawElementsInstanced: (mode, count, type, offset, instances) => count * instances,
  };
  for (const kind of [WebGLRenderingContext, WebGL2RenderingContext]) {
    const clear = kind.prototype.clear;
    kind.prototype.clear = function (mask) {
      clear.call(this, mask);
      if (mask & this.COLOR_BUFFER_BIT && open?.has(this) && !aside(this)) open.set(this, 0);
    };
    for (const [name, count] of Object.entries(counts)) {
      const draw = kind.prototype[name];
      if (!draw) continue;
      kind.prototype[name] = function (...given) {
        draw.apply(this, given);
        add(this, count(...given));
      };
    }
  }

  // A browser has 16 contexts, and takes its time to collect those of canvases that are gone. Give them back, and let nobody
  // who is about to go anyway try to get them again.
  const getContext = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    const context = getContext.call(this, kind, ...rest);
    if (context && kind.startsWith("webgl")) drawn.contexts.add(context);
    return context;
  };
  document.addEventListener("webglcontextlost", (event) => event.stopImmediatePropagation(), true);
  drawn.release ??= () => {
    for (const context of drawn.contexts) context.getExtension("WEBGL_lose_context")?.loseContext();
    drawn.contexts.clear();
    return new Promise((resolve) => setTimeout(resolve, 100)); // the canvases are told of it later
  };

  // --- Pictures, and hands.
  const shown = ({ target }) => {
    if (target.tagName !== "IMG" || !target.src.startsWith("data:image/png")) return;
    target.decode().then(() => requestAnimationFrame(() => note(true)), () => {});
  };
  document.addEventListener("load", shown, true);
  for (const kind of ["keydown", "change", "click"]) document.addEventListener(kind, () => (drawn.touched = clock()), true);

  // --- Bytes.
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => (drawn.bytes += data.byteLength ?? data.size ?? data.length));
    }
  };

  // The time of the last fresh frame after `since`, once ten looks in a row found no newer one; null where `most` looks found
  // none. A page that is busy does not come to look.
  drawn.settled ??= (since, most, frames = drawn.frames) => new Promise((resolve) => {
    let found = null, same = 0, looks = 0;
    const look = () => {
      const newest = frames.findLast(({ time, fresh }) => fresh && time >= since);
      same = newest && newest === found ? same + 1 : 0;
      found = newest;
      if (same >= 10) resolve(found.time);
      else if ((looks += 1) >= most && !found) resolve(null);
      else setTimeout(look, 30);
    };
    look();
  });

  // Frames like those above, of what is no canvas: each time that `read()` returns something else, once that was painted.
  drawn.follow ??= (read) => {
    const frames = [];
    let before = read();
    const look = () => {
      const value = read();
      if (value === before) return;
      before = value;
      requestAnimationFrame(() => setTimeout(() => frames.push({ time: clock(), fresh: true, value })));
    };
    clearInterval(drawn.following);
    drawn.following = setInterval(look, 5);
    return frames;
  };
})();
