defmodule Image.ZeroShot.Serving.Identity do
  @moduledoc false

  # What tells the vectors of one model from those of another.

  alias Image.ZeroShot.Serving

  @typedoc """
  `:commit` is that of the model, or a hash of its weights where it has none.
  """
  @type t :: %{
          name: String.t(),
          commit: String.t() | nil,
          dim: pos_integer(),
          logit_scale: float(),
          logit_bias: float() | nil
        }

  @doc """
  The identity of the model of a serving.
  """
  @spec of(Serving.info()) :: t()
  def of(info) do
    %{
      name: info.name,
      commit: info[:commit],
      dim: info.dim,
      logit_scale: info.logit_scale,
      logit_bias: info[:logit_bias]
    }
  end

  @doc """
  A model for an error message.
  """
  @spec shown(%{name: String.t(), commit: String.t() | nil, dim: pos_integer()}) :: String.t()
  def shown(model) do
    commit = if model.commit, do: " at #{model.commit}"
    "#{inspect(model.name)}#{commit} (#{model.dim} dimensions)"
  end
end
