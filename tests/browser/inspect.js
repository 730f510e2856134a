// What a person would see on the page, asked of the page itself. Put into every page before its own scripts run.
window.seen = (() => {
  let lost = 0;
  document.addEventListener("webglcontextlost", () => { lost += 1; }, true);

  const shown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })
    && element.getClientRects().length > 0;
  const named = (element) => `${element.tagName.toLowerCase()}.${[...element.classList].join(".")}`;
  const rgb = (text) => { const c = text.match(/[\d.]+/g).map(Number); return c.length < 4 ? [...c, 1] : c; };

  const scenes = (figure) => Object.entries(figure._fullLayout ?? {})
    .filter(([name]) => /^scene\d*$/.test(name)).map(([, layout]) => layout._scene?.glplot);

  function drawn(figure) {
    const still = figure.querySelector(":scope > img");  // stands there until all is drawn
    return Boolean(figure.querySelector(".plot-container") && figure.calcdata && scenes(figure).every(Boolean)
      && !(still && shown(still)));
  }

  function pixels(plot) {
    plot.redraw();
    const gl = plot.gl, width = gl.drawingBufferWidth, height = gl.drawingBufferHeight;
    const bytes = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    return new Uint32Array(bytes.buffer);
  }

  // What the traces of each 3-D scene put on the picture: the scene is drawn with them and without.
  function sceneInk(figure) {
    return scenes(figure).map((plot) => {
      const all = pixels(plot);
      const objects = plot.objects.splice(0);
      const bare = pixels(plot);
      plot.objects.push(...objects);
      plot.redraw();
      let changed = 0;
      for (let i = 0; i < all.length; i++) changed += all[i] !== bare[i];
      return { lost: plot.gl.isContextLost(), changed, colours: new Set(all).size };
    });
  }

  // Hide or show what the data draws in a 2-D figure; its axes and texts stay.
  function hideTraces(figure, hidden) {
    for (const layer of figure.querySelectorAll(".cartesianlayer .mlayer, .gl-container"))
      layer.style.opacity = hidden ? 0 : "";
  }

  // How many different colours an image has; 0 where it cannot be shown.
  async function colours(image) {
    if (!await image.decode().then(() => true, () => false)) return 0;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return new Set(new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
  }

  // What a cell of a notebook shows, but for its live figures.
  async function contents(cell) {
    const images = [...cell.querySelectorAll("img")].filter(shown);
    const counts = await Promise.all(images.map(colours));
    const ofOutputs = (image) => image.closest(".jp-OutputArea-output");
    return {
      text: cell.innerText,
      empty: [...cell.querySelectorAll(".jp-OutputArea-output")].filter((output) => !output.offsetHeight).length,
      figures: cell.querySelectorAll(".jp-RenderedPlotly").length,
      broken: images.filter((_, i) => !counts[i]).map((image) => (image.alt || image.src).slice(0, 60)),
      colours: counts.filter((count, i) => count && ofOutputs(images[i])),
    };
  }

  // Elements that scroll on their own, or reach out of the root. A line of code may scroll in its editor.
  function scrolling(root) {
    const found = [], edge = root.getBoundingClientRect().right;
    for (const element of root.querySelectorAll("*")) {
      if (element.closest(".cm-editor, svg, .plot-container, .katex") || !element.clientWidth || !shown(element)) continue;
      const { overflowX, overflowY } = getComputedStyle(element);
      const scrolls = (way) => way === "auto" || way === "scroll";
      if (scrolls(overflowY) && element.scrollHeight > element.clientHeight + 1)
        found.push(`${named(element)} has a scroll bar of its own: ${element.scrollHeight} in ${element.clientHeight} px`);
      if (scrolls(overflowX) && element.scrollWidth > element.clientWidth + 1)
        found.push(`${named(element)} is too wide: ${element.scrollWidth} in ${element.clientWidth} px`);
      const right = element.getBoundingClientRect().right;
      if (right > edge + 1) found.push(`${named(element)} reaches ${Math.round(right - edge)} px out of the page`);
    }
    return found;
  }

  const CONTROLS = "button, select, input, textarea, a, [role=tab], [role=slider], .widget-label, .widget-readout, .js-plotly-plot";

  // Pairs of controls, labels and figures of which one lies over the other.
  function overlaps(root) {
    const parts = [...root.querySelectorAll(CONTROLS)].filter(shown).filter((e) => !e.parentElement.closest(".js-plotly-plot"));
    const boxes = parts.map((part) => part.getBoundingClientRect());
    const found = [];
    for (let i = 0; i < parts.length; i++) {
      for (let j = i + 1; j < parts.length; j++) {
        const [a, b] = [boxes[i], boxes[j]];
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1 && high > 1 && !parts[i].contains(parts[j]) && !parts[j].contains(parts[i]))
          found.push(`${titled(parts[i])} and ${titled(parts[j])} overlap by ${Math.round(wide)} x ${Math.round(high)} px`);
      }
    }
    return found;
  }

  const titled = (element) => `${named(element)} ${JSON.stringify((element.innerText || element.title || "").slice(0, 30))}`;

  // Labels that are cut off where their room ends.
  function cutOff(root) {
    return [...root.querySelectorAll("button, .widget-label, .widget-readout, [role=tab], .lm-TabBar-tabLabel")].filter(shown)
      .filter((element) => element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
      .map((element) => `${titled(element)} is cut off: ${element.scrollWidth} in ${element.clientWidth} px`);
  }

  function luminance([r, g, b]) {
    const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  }

  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]);

  function background(element) {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  }

  // Texts whose contrast is under the 4.5 : 1 of WCAG's level AA, 3 : 1 where they are large. What is disabled may be faint, and
  // a symbol is no text.
  function faint(root) {
    const found = new Map();
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement, text = node.textContent.trim();
      if (!/[\p{L}\p{N}]/u.test(text) || element.closest(":disabled, style, script, option") || !shown(element)) continue;
      const style = getComputedStyle(element), size = parseFloat(style.fontSize);
      let ink = rgb(element.closest("svg") ? style.fill : style.color);
      ink[3] *= element.closest("svg") ? style.fillOpacity : 1;
      if (!ink[3]) continue;  // made so that it cannot be seen
      for (let e = element; e && e !== root; e = e.parentElement) ink = [...ink.slice(0, 3), ink[3] * getComputedStyle(e).opacity];
      const ground = background(element);
      const [dark, light] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => a - b);
      const ratio = (light + 0.05) / (dark + 0.05);
      const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
      const said = `${JSON.stringify(text.slice(0, 40))} of ${named(element)} has a contrast of ${ratio.toFixed(2)}`;
      if (ratio < (large ? 3 : 4.5)) found.set(`${named(element)} ${ratio.toFixed(2)}`, said);
    }
    return [...found.values()];
  }

  return { lost: () => lost, shown, named, rgb, drawn, sceneInk, hideTraces, contents, scrolling, overlaps, cutOff,
    faint };
})();
