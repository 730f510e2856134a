// Runs before a page's own scripts, in its frames too: notes each frame that WebGL draws and each picture that is shown, whatever
// drew it, with the number of elements (indices, points, instances) in it; and counts the bytes that web sockets bring.
(() => {
  const clock = () => performance.timeOrigin + performance.now();
  const drawn = (window.drawn = window.top.drawn ?? { clock, frames: [], bytes: 0, fence: true });
  const note = (elements) => drawn.frames.push({ time: clock(), elements });

  // --- WebGL: all draw calls of one task are a frame. Software draws late: reading one pixel waits until it has.
  let open = null;
  const channel = new MessageChannel();
  channel.port1.onmessage = () => {
    const { elements, shown, contexts } = open;
    open = null;
    if (!shown) return; // a pass for picking with the mouse, drawn aside
    if (drawn.fence) contexts.forEach(finish);
    note(elements);
  };
  function finish(gl) {
    const bound = gl.getParameter(gl.FRAMEBUFFER_BINDING);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    gl.bindFramebuffer(gl.FRAMEBUFFER, bound);
  }
  function add(gl, elements) {
    if (!open) {
      open = { elements: 0, shown: false, contexts: new Set() };
      channel.port2.postMessage(null);
    }
    open.elements += elements;
    open.contexts.add(gl);
    open.shown ||= gl.getParameter(gl.FRAMEBUFFER_BINDING) === null;
  }
  const counts = {
    drawArrays: (mode, first, count) => count,
    drawElements: (mode, count) => count,
    drawRangeElements: (mode, start, end, count) => count,
    drawArraysInstanced: (mode, first, count, instances) => count * instances,
    drawElementsInstanced: (mode, count, type, offset, instances) => count * instances,
    blitFramebuffer: () => 0,
  };
  for (const kind of [WebGLRenderingContext, WebGL2RenderingContext]) {
    for (const [name, count] of Object.entries(counts)) {
      const draw = kind.prototype[name];
      if (!draw) continue;
      kind.prototype[name] = function (...given) {
        draw.apply(this, given);
        add(this, count(...given));
      };
    }
  }

  // --- Pictures.
  const shown = ({ target }) => {
    if (target.tagName !== "IMG" || !target.src.startsWith("data:image/png")) return;
    target.decode().then(() => requestAnimationFrame(() => note(target.src.length)), () => {});
  };
  document.addEventListener("load", shown, true);

  // --- Bytes.
  window.WebSocket = class extends WebSocket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => (drawn.bytes += data.byteLength ?? data.size ?? data.length));
    }
  };

  // The last frame after `since` that brought something else than the one before it, once twelve looks in a row found no newer
  // one: a page that is busy does not come to look. Null where none came in `patience` milliseconds.
  drawn.settled ??= (since, patience) => new Promise((resolve) => {
    let found = null, looks = 0;
    const look = () => {
      let newest = null, before = drawn.frames.findLast((frame) => frame.time < since)?.elements;
      for (const frame of drawn.frames) {
        if (frame.time < since) continue;
        if (frame.elements !== before) newest = frame;
        before = frame.elements;
      }
      looks = newest && newest === found ? looks + 1 : 0;
      found = newest;
      if (looks >= 12 || clock() - since > patience) resolve(looks >= 12 ? found : null);
      else setTimeout(look, 40);
    };
    look();
  });
})();
