import type { BackboneRecipe, ViTRecipe } from './recipe.ts';

export const isViT = (backbone: Pick<BackboneRecipe, 'name'>): backbone is ViTRecipe => backbone.name === 'vit-small' || backbone.name === 'vit-base';

/** Width of the features: of a ResNet pooled (four stages, three of resnet-small; each doubles the channels, a bottleneck block has four times its width), of a Vision Transformer its tokens'. */
export function featureSize(backbone: BackboneRecipe): number {
  switch (backbone.name) {
    case 'resnet18': return backbone.width * 8;
    case 'resnet50': return backbone.width * 32;
    case 'resnet-small': return backbone.width * 4;
    case 'vit-small': return 384;
    case 'vit-base': return 768;
  }
}
