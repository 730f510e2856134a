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

  return { lost: () => lost, shown, named, rgb, drawn, sceneInk, hideTraces, contents, scrolling };
})();
