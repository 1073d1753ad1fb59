// Runs before the first paint, so that the page never flashes in the other colours. The choice is no secret, so it is
// kept for good; where nothing can be kept, the system's wish holds.
(() => {
  'use strict';
  const NAME = 'vastproxy-theme';
  const read = () => { try { return localStorage.getItem(NAME); } catch { return null; } };
  const write = (value) => { try { localStorage.setItem(NAME, value); } catch { /* private mode */ } };
  const apply = (theme) => {
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  apply(read());
  /** "light" or "dark": what is seen now. */
  const seen = () => document.documentElement.dataset.theme
    || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  window.vastproxyTheme = Object.freeze({
    seen,
    toggle() {
      const next = seen() === 'dark' ? 'light' : 'dark';
      write(next);
      apply(next);
      return next;
    },
  });
})();
