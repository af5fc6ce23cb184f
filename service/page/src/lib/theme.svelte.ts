// Light, dark, or as the system has it.

import { recall, remember } from './stored';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

class ThemeChoice {
  chosen = $state<Theme>('system');

  constructor() {
    this.choose(THEMES.find((theme) => theme === recall('theme')) ?? 'system');
  }

  choose(theme: Theme): void {
    this.chosen = theme;
    remember('theme', theme);
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }
}

export const theme = new ThemeChoice();
