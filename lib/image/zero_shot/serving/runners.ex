defmodule Image.ZeroShot.Serving.Runners do
  @moduledoc false

  # Which runner the options of a call name: the tests name their own.

  alias Image.ZeroShot.Serving

  @spec of(map()) :: module()
  def of(opts), do: Map.get(opts, :runner, Serving.Model)

  @doc """
  Returns how logs call the model of these options.
  """
  @spec title(map()) :: String.t()
  def title(opts), do: inspect(Map.get(opts, :repo))

  @spec key(map()) :: term()
  def key(opts), do: of(opts).key(opts)
end
