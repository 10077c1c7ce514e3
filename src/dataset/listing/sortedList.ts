export interface SortState { read: boolean }
